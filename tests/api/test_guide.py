"""docs/moving.md tells of every endpoint and every field, and of none that is not there."""

import re
from collections import defaultdict
from pathlib import Path

import pytest
from tests.jobs.service.made import service_of

from luthier.api.app import make_app

GUIDE = Path(__file__).parents[2] / "docs" / "moving.md"
ROW = re.compile(r"^\| (?:`([A-Z]+) (\S+)` )?\| ?(.*?) ?\| .+ \|$", re.MULTILINE)


def told() -> dict[str, set[str]]:
    """Return the fields that the guide names, by endpoint."""
    found: dict[str, set[str]] = defaultdict(set)
    endpoint = ""
    for method, path, fields in ROW.findall(GUIDE.read_text(encoding="utf-8")):
        endpoint = f"{method} {path}" if method else endpoint
        if endpoint:
            found[endpoint] |= set(re.findall(r"`([^`]+)`", fields))
    return dict(found)


def offered(document: dict) -> dict[str, set[str]]:
    """Return the fields of the query and of the body, by endpoint."""
    shapes, found = document["components"]["schemas"], {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            fields = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"}
            for content in operation.get("requestBody", {}).get("content", {}).values():
                shape = content["schema"]
                shape = shapes[shape["$ref"].rsplit("/", 1)[-1]] if "$ref" in shape else shape
                fields |= set(shape["properties"])
            found[f"{method.upper()} {path}"] = fields
    return found


def test_the_guide_tells_of_every_endpoint_and_field(tmp_path: Path) -> None:
    service = service_of(tmp_path)
    document = make_app(service).openapi()
    service.database.close()
    assert told() == offered(document)


def test_the_guide_is_read_right() -> None:
    assert told()["GET /v1/files"] == {"purpose", "limit", "order", "after"}
    with pytest.raises(KeyError):
        told()["GET /v1/nothing"]
