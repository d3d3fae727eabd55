"""Forced calls become one schema that keeps the tools' own definitions within reach."""

import json

import jsonschema_rs
import pytest
from tests.api.test_chat import CALL, TOOL

from luthier.api.choosing import _call_schema, choosing
from luthier.jobs.service.refusal import Refusal

POINT = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}


def function(name: str, point: dict) -> dict:
    parameters = {"type": "object", "properties": {"at": {"$ref": "#/$defs/Point"}}, "$defs": {"Point": point}}
    return {"name": name, "parameters": parameters}


def test_references_of_the_parameters_are_found_at_the_root() -> None:
    schema = _call_schema([function("go", POINT), function("stay", POINT)])
    assert jsonschema_rs.is_valid(schema, {"name": "stay", "arguments": {"at": {"x": 1}}})
    for wrong in ({"name": "run", "arguments": {}}, {"name": "go", "arguments": {"at": {"x": "no"}}}, {"name": "go"}):
        assert not jsonschema_rs.is_valid(schema, wrong)


def test_definitions_that_differ_are_refused() -> None:
    with pytest.raises(Refusal, match="Two tools define 'Point'"):
        _call_schema([function("go", POINT), function("stay", {"type": "string"})])


def test_free_tools_are_shown_and_none_hides_them() -> None:
    free, none = (choosing([TOOL], choice, None, form_param="f") for choice in ("auto", "none"))
    assert (free.tools, free.names, free.grammar) == ((TOOL,), {"weather"}, None)
    assert (none.tools, none.names) == ((), frozenset())
    assert json.loads(CALL.removeprefix("<tool_call>").removesuffix("</tool_call>"))["name"] in free.names
