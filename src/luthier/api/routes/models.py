"""/models: the bases on offer, tuned models and checkpoints."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request

from luthier.api.deps import owner_of, service_of
from luthier.api.shapes import ModelDeleted, ModelList, ModelObject
from luthier.api.talking import inference_of
from luthier.api.words import model_shape

router = APIRouter(prefix="/models", tags=["models"])


@router.get("", response_model=ModelList, operation_id="listModels")
def list_models(request: Request) -> Any:
    """List what can be asked."""
    models = service_of(request).catalogue.list(owner_of(request))
    return {"object": "list", "data": [model_shape(model) for model in models]}


@router.get("/{model}", response_model=ModelObject, operation_id="retrieveModel")
def get_model(request: Request, model: str) -> Any:
    """Return a model; under another name of it, the one that really answers."""
    catalogue, owner = service_of(request).catalogue, owner_of(request)
    return model_shape(catalogue.get(catalogue.resolve(model, owner).name, owner))


@router.delete("/{model}", response_model=ModelDeleted, operation_id="deleteModel")
def delete_model(request: Request, model: str) -> Any:
    """Delete a tuned model or a checkpoint, with its weights; a base cannot be deleted."""
    catalogue, owner = service_of(request).catalogue, owner_of(request)
    adapters = {one.id: one.adapter for one in catalogue.list(owner) if one.adapter}
    catalogue.delete(model, owner)
    if model in adapters:
        inference_of(request).forget(Path(adapters[model]))
    return {"id": model, "object": "model", "deleted": True}
