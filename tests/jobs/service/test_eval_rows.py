"""Rows held against an eval's schema."""

from typing import Any

import pytest

from luthier.jobs.service.eval_rows import check_schema, misfit
from luthier.jobs.service.refusal import Refusal

SCHEMA = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "count": {"type": "integer"},
        "share": {"type": "number"},
        "sure": {"type": "boolean"},
        "kind": {"enum": ["a", "b"]},
        "maybe": {"type": ["string", "null"]},
        "list": {"type": "array", "items": {"type": "object", "required": ["k"]}},
        "closed": {"type": "object", "properties": {"x": {}}, "additionalProperties": False},
    },
    "required": ["text"],
}


@pytest.mark.parametrize(
    "more",
    [{}, {"count": 3}, {"count": 3.0}, {"share": 1}, {"share": 0.5}, {"sure": True}, {"kind": "a"}, {"maybe": None}]
    + [{"list": [{"k": 1}]}, {"list": []}, {"closed": {"x": []}}, {"unknown": 1}],
)
def test_what_fits(more: dict[str, Any]) -> None:
    assert misfit({"text": "t", **more}, SCHEMA, "item") is None


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ({}, "item has no 'text'"),
        ([], "item is not of the type object"),
        ({"text": 1}, "item.text is not of the type string"),
        ({"text": "t", "count": 0.5}, "item.count is not of the type integer"),
        ({"text": "t", "count": True}, "item.count is not of the type integer"),
        ({"text": "t", "sure": 1}, "item.sure is not of the type boolean"),
        ({"text": "t", "kind": "c"}, "item.kind is none of the allowed values"),
        ({"text": "t", "maybe": 1}, "item.maybe is not of the type string or null"),
        ({"text": "t", "list": [{"k": 1}, {}]}, "item.list[1] has no 'k'"),
        ({"text": "t", "closed": {"y": 1}}, "item.closed has 'y', which is not allowed"),
    ],
)
def test_what_does_not_fit_is_named(value: object, wrong: str) -> None:
    assert misfit(value, SCHEMA, "item") == wrong


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "thing"},
        {"type": 3},
        {"type": ["string", []]},
        {"properties": {"a": {"type": "text"}}},
        {"items": {"items": {"type": "list"}}},
        {"properties": {"\ud800": {"type": "\ud800"}}},
    ],
)
def test_a_schema_of_unknown_types_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="Invalid schema") as refused:
        check_schema(schema)
    assert f"{refused.value.what} {refused.value.param}".encode()


@pytest.mark.parametrize(
    "schema", [{}, SCHEMA, {"properties": 3, "required": "x", "items": [1], "enum": 7}, {"type": []}]
)
def test_other_schemas_pass_and_check_what_they_say(schema: dict[str, Any]) -> None:
    check_schema(schema)
    assert misfit({"text": "t"}, schema, "item") is None
