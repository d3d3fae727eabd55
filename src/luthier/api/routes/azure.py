"""Azure's own doors: deployments are asked by name, and made by the management route."""

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field

from luthier.api.deps import owner_of, service_of
from luthier.api.routes.chat import answer_chat
from luthier.api.routes.completions import answer_completion
from luthier.api.routes.embeddings import answer_embedding
from luthier.api.shapes_talk import (
    Body,
    ChatCompletion,
    ChatRequest,
    Completion,
    CompletionRequest,
    EmbeddingRequest,
    Embeddings,
    Told,
)
from luthier.jobs.service.records import DeploymentRecord
from luthier.jobs.service.refusal import Refusal

VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")
MANAGED = (
    "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.CognitiveServices"
    "/accounts/{account}/deployments"
)
KIND = "Microsoft.CognitiveServices/accounts/deployments"
Name = Annotated[str, Path(min_length=1, max_length=256)]
"""A deployment's, or, as Azure's client writes it where no deployment is set, a model's."""
router = APIRouter(tags=["azure"])
management = APIRouter(tags=["azure"])


def check_version(api_version: Annotated[str | None, Query(alias="api-version")] = None) -> None:
    """Refuse a request without Azure's `api-version`; any well-formed one is answered alike."""
    if api_version is None or not VERSION.fullmatch(api_version):
        message = "The 'api-version' query parameter is needed, such as api-version=2025-04-01-preview."
        raise Refusal(message, param="api-version", code="missing_required_parameter")


class Sku(Body):
    """How much Azure would set aside; kept and told, and nothing is set aside here."""

    name: str = Field("Standard", max_length=64)
    capacity: int = Field(1, ge=0, le=1_000_000)


class DeployedModel(Body):
    """The model under a deployment's name."""

    name: str
    format: str = "OpenAI"
    version: str = "1"
    source: str | None = None
    """Azure's account of the model; there is one account here."""


class DeployedProperties(Body):
    """What is deployed."""

    model: DeployedModel


class PutDeployment(Body):
    """A deployment to make or to change."""

    sku: Sku = Sku()
    properties: DeployedProperties


class ToldDeployment(Told):
    """A deployment, as Azure's management tells it."""

    id: str
    name: str
    type: Literal["Microsoft.CognitiveServices/accounts/deployments"]
    sku: dict[str, Any]
    properties: dict[str, Any]


class DeploymentList(Told):
    """All deployments of a project."""

    value: list[ToldDeployment]


@router.post(
    "/deployments/{deployment}/chat/completions", response_model=ChatCompletion, response_model_exclude_unset=True
)
async def create_chat(request: Request, deployment: Name, body: ChatRequest) -> Any:
    """Answer a conversation by the deployed model."""
    return await answer_chat(request, body, model=deployment)


@router.post("/deployments/{deployment}/completions", response_model=Completion, response_model_exclude_unset=True)
async def create_completion(request: Request, deployment: Name, body: CompletionRequest) -> Any:
    """Continue a text by the deployed model."""
    return await answer_completion(request, body, model=deployment)


@router.post("/deployments/{deployment}/embeddings", response_model=Embeddings, response_model_exclude_unset=True)
async def create_embedding(request: Request, deployment: Name, body: EmbeddingRequest) -> Any:
    """Return vectors by the deployed model."""
    return await answer_embedding(request, body, model=deployment)


@management.put(MANAGED + "/{deployment}", response_model=ToldDeployment, operation_id="putDeployment")
def put_deployment(request: Request, deployment: Name, body: PutDeployment) -> Any:
    """Give a tuned model a name, or a name another model."""
    sku = body.sku.model_dump()
    put = service_of(request).deployments.put(deployment, body.properties.model.name, owner_of(request), sku)
    return _shape(request, put)


@management.get(MANAGED, response_model=DeploymentList, operation_id="listDeployments")
def list_deployments(request: Request) -> Any:
    """List a project's deployments."""
    return {"value": [_shape(request, one) for one in service_of(request).deployments.list(owner_of(request))]}


@management.get(MANAGED + "/{deployment}", response_model=ToldDeployment, operation_id="getDeployment")
def get_deployment(request: Request, deployment: Name) -> Any:
    """Return a deployment."""
    return _shape(request, service_of(request).deployments.get(deployment, owner_of(request)))


@management.delete(MANAGED + "/{deployment}", status_code=204, operation_id="deleteDeployment")
def delete_deployment(request: Request, deployment: Name) -> None:
    """Take the name away; the model stays."""
    service_of(request).deployments.delete(deployment, owner_of(request))


def _shape(request: Request, deployment: DeploymentRecord) -> dict[str, Any]:
    place = request.scope["path_params"]
    above = MANAGED.format(**{name: place[name] for name in ("subscription", "group", "account")})
    return {
        "id": f"{above}/{deployment.id}",
        "name": deployment.id,
        "type": KIND,
        "sku": deployment.sku,
        "properties": {
            "model": {"format": "OpenAI", "name": deployment.model, "version": "1"},
            "provisioningState": "Succeeded",
        },
    }
