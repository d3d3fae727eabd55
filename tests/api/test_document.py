"""Our OpenAPI document beside the hosted service's, field by field.

`openapi-subset.json` is cut from OpenAI's OpenAPI document 2.3.0 (MIT licence): fine-tuning, files, models, graders.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.jobs.service.made import service_of

from luthier.api.app import make_app

HOSTED = json.loads(Path(__file__).with_name("openapi-subset.json").read_text(encoding="utf-8"))
PAIRS = {
    "FineTuningJob": "JobObject",
    "FineTuningJobEvent": "EventObject",
    "FineTuningJobCheckpoint": "CheckpointObject",
    "FineTuningCheckpointPermission": "PermissionObject",
    "ListPaginatedFineTuningJobsResponse": "JobList",
    "ListFineTuningJobEventsResponse": "EventList",
    "ListFineTuningJobCheckpointsResponse": "CheckpointList",
    "ListFineTuningCheckpointPermissionResponse": "PermissionList",
    "DeleteFineTuningCheckpointPermissionResponse": "PermissionDeleted",
    "OpenAIFile": "FileObject",
    "ListFilesResponse": "FileList",
    "DeleteFileResponse": "FileDeleted",
    "Model": "ModelObject",
    "ListModelsResponse": "ModelList",
    "DeleteModelResponse": "ModelDeleted",
}
"""What is told: the hosted schema, and ours."""
ASKED = {
    "CreateFineTuningJobRequest": "CreateJob",
    "FineTuneMethod": "AskedMethod",
    "FineTuneSupervisedMethod": "AskedSupervised",
    "FineTuneDPOMethod": "AskedDpo",
    "FineTuneSupervisedHyperparameters": "AskedHyperparameters",
    "FineTuneDPOHyperparameters": "AskedDpoHyperparameters",
    "FileExpirationAfter": "ExpiresAfter",
    "CreateFineTuningCheckpointPermissionRequest": "CreatePermissions",
}
"""What is asked: the hosted schema, and ours."""
NEVER = {"Model": {"shutdown_date"}}
"""Optional fields that mean nothing here."""
ADDED = {"status": {"pausing", "paused"}, "purpose": {"evals"}}
"""Values the hosted service has and its schema leaves out."""


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    service = service_of(tmp_path_factory.mktemp("document"))
    document = make_app(service).openapi()
    service.database.close()
    return document


def operations(document: dict[str, Any], prefix: str = "") -> dict[tuple[str, str], dict[str, Any]]:
    """Return operations by method and path, the names in the path left out."""
    return {
        (method, "/".join("{}" if part.startswith("{") else part for part in path.removeprefix(prefix).split("/"))): op
        for path, methods in document["paths"].items()
        for method, op in methods.items()
    }


def test_every_hosted_operation_is_here(ours: dict[str, Any]) -> None:
    missing = set(operations(HOSTED)) - set(operations(ours, "/v1"))
    assert not missing


def test_every_hosted_parameter_is_here_with_its_default(ours: dict[str, Any]) -> None:
    here = operations(ours, "/v1")
    for place, operation in operations(HOSTED).items():
        told = {(p["name"], p["in"]): p["schema"] for p in here[place].get("parameters", ())}
        for wanted in operation.get("parameters", ()):
            if wanted["in"] == "query":
                assert (wanted["name"], "query") in told, (place, wanted["name"])
                default = told[wanted["name"], "query"].get("default")
                assert default == wanted["schema"].get("default"), (place, wanted["name"])


@pytest.mark.parametrize("hosted", PAIRS)
def test_told_fields_are_the_hosted_ones(ours: dict[str, Any], hosted: str) -> None:
    theirs, mine = HOSTED["components"]["schemas"][hosted], ours["components"]["schemas"][PAIRS[hosted]]
    assert set(theirs["properties"]) - NEVER.get(hosted, set()) <= set(mine["properties"])
    assert set(theirs.get("required", ())) <= set(mine["required"]), "what the hosted service always tells, we tell"
    for name, field in theirs["properties"].items():
        if name in mine["properties"]:
            assert kinds(field, HOSTED) >= kinds(mine["properties"][name], ours), f"{hosted}.{name}"
            extra = values(mine["properties"][name], ours) - values(field, HOSTED)
            assert not values(field, HOSTED) or extra <= ADDED.get(name, set()), f"{hosted}.{name}: {extra}"


@pytest.mark.parametrize("hosted", ASKED)
def test_what_may_be_asked_there_may_be_asked_here(ours: dict[str, Any], hosted: str) -> None:
    theirs, mine = HOSTED["components"]["schemas"][hosted], ours["components"]["schemas"][ASKED[hosted]]
    assert set(theirs["properties"]) <= set(mine["properties"])
    assert set(mine.get("required", ())) <= set(theirs.get("required", ()))
    for name, field in theirs["properties"].items():
        assert kinds(mine["properties"][name], ours) >= kinds(field, HOSTED), f"{hosted}.{name}"
        fixed = values(mine["properties"][name], ours)
        assert not fixed or fixed >= values(field, HOSTED), f"{hosted}.{name}"


def test_a_files_form_has_the_hosted_fields(ours: dict[str, Any]) -> None:
    theirs, mine = (
        HOSTED["components"]["schemas"]["CreateFileRequest"],
        ours["components"]["schemas"]["Body_createFile"],
    )
    assert set(mine["properties"]) == {"file", "purpose", "expires_after[anchor]", "expires_after[seconds]"}
    assert {name.split("[")[0] for name in mine["properties"]} == set(theirs["properties"])
    assert mine["required"] == theirs["required"]
    assert values(mine["properties"]["purpose"], ours) >= values(theirs["properties"]["purpose"], HOSTED)


def test_errors_have_the_hosted_shape_and_never_fastapis(ours: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in json.dumps(ours)
    for operation in operations(ours).values():
        assert "422" not in operation["responses"]
        assert operation["responses"]["default"]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorBody")


def resolved(field: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in field:
        field = document["components"]["schemas"][field["$ref"].rsplit("/", 1)[-1]]
    return field


def branches(field: dict[str, Any], document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the plain schemas that a field may be."""
    field = resolved(field, document)
    parts = field.get("anyOf") or field.get("oneOf")
    return [branch for part in parts for branch in branches(part, document)] if parts else [field]


def kinds(field: dict[str, Any], document: dict[str, Any]) -> set[str]:
    """Return the JSON types a field may have; a whole number is a number."""
    found = set()
    for branch in branches(field, document):
        kind = branch.get("type", "string" if "const" in branch or "enum" in branch else None)
        found |= set(kind) if isinstance(kind, list) else {kind}
    return found | ({"number"} if "integer" in found else set()) if "number" in found else found


def values(field: dict[str, Any], document: dict[str, Any]) -> set[str]:
    """Return the fixed texts a field may have."""
    found: set[str] = set()
    for branch in branches(field, document):
        found |= set(branch.get("enum", ())) | ({branch["const"]} if "const" in branch else set())
    return {value for value in found if isinstance(value, str)}
