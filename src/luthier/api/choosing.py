"""What a request says about tools and the answer's form: what the model is shown, and the grammar it is held to."""

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.api.shapes_talk import AnyJson, Json, ResponseFormat, SchemaJson
from luthier.core.errors import LuthierError
from luthier.jobs.service.refusal import Refusal

DEFINITIONS = ("$defs", "definitions")


@dataclass(frozen=True)
class Choosing:
    """What an answer may be."""

    tools: tuple[Json, ...] = ()
    """Those the model is shown, just as the client wrote them."""
    names: frozenset[str] = frozenset()
    """Functions whose calls are looked for."""
    grammar: str | None = None
    """Keeps the answer to JSON, to a schema, or to a call."""


def choosing(
    tools: Sequence[Json] | None, choice: str | Json | None, form: ResponseFormat | None, *, form_param: str
) -> Choosing:
    """Return what the answer may be; Refusal by name where the parts do not go together or are not done."""
    functions = [_function(tool, index) for index, tool in enumerate(tools or ())]
    forced = _forced(choice, functions)
    constrained = isinstance(form, AnyJson | SchemaJson)
    if choice == "none" or not functions:
        return Choosing(grammar=_form_grammar(form, form_param))
    if constrained:
        message = f"'{form_param}' and 'tools' cannot be used together; set 'tool_choice' to 'none' for a JSON answer."
        raise Refusal(message, code="unsupported_parameter", param=form_param)
    names = frozenset(function["name"] for function in functions)
    grammar = _schema_grammar(_call_schema(forced), "tool_choice", "tools") if forced else None
    return Choosing(tuple(tools or ()), names, grammar)


def _function(tool: Json, index: int) -> Json:
    if tool.get("type") != "function":
        message = f"Invalid value: '{str(tool.get('type'))[:40]}'. Supported values are: 'function'."
        raise Refusal(message, code="invalid_value", param=f"tools[{index}].type")
    function = tool.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        param = f"tools[{index}].function.name"
        raise Refusal(f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)
    if not isinstance(function.get("parameters", {}), dict):
        param = f"tools[{index}].function.parameters"
        raise Refusal(f"Invalid type for '{param}': expected an object.", code="invalid_type", param=param)
    return function


def _forced(choice: str | Json | None, functions: list[Json]) -> list[Json]:
    """Return the functions of which one must be called; none where the model may choose."""
    if choice in (None, "none", "auto"):
        return []
    if not functions:
        message = "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified."
        raise Refusal(message, param="tool_choice", code="invalid_value")
    if choice == "required":
        return functions
    named = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
    name = named.get("name") if isinstance(named, dict) else None
    if name is None:
        message = "Unsupported value: 'tool_choice' can be 'none', 'auto', 'required' or name one function."
        raise Refusal(message, code="unsupported_value", param="tool_choice")
    found = [function for function in functions if function["name"] == name]
    if not found:
        message = f"Invalid value for 'tool_choice': the function '{str(name)[:64]}' is not among the 'tools'."
        raise Refusal(message, param="tool_choice", code="invalid_value")
    return found


def _call_schema(functions: list[Json]) -> Json:
    """Return the schema of one call; definitions lie at its root, where the references of the parameters look."""
    calls, root = [], {key: {} for key in DEFINITIONS}
    for function in functions:
        parameters = dict(function.get("parameters") or {"type": "object"})
        for key, shared in root.items():
            _share(parameters.pop(key, None) or {}, shared)
        properties = {"name": {"const": function["name"]}, "arguments": parameters}
        calls.append(
            {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
        )
    return {key: value for key, value in root.items() if value} | (calls[0] if len(calls) == 1 else {"anyOf": calls})


def _share(definitions: Json, shared: Json) -> None:
    for name, schema in definitions.items():
        if shared.setdefault(name, schema) != schema:
            message = f"Two tools define '{name}' in different ways; name one function in 'tool_choice'."
            raise Refusal(message, code="unsupported_value", param="tool_choice")


def _form_grammar(form: ResponseFormat | None, param: str) -> str | None:
    if isinstance(form, AnyJson):
        from luthier.serve.constrain import json_object

        return json_object()
    if isinstance(form, SchemaJson):
        schema = form.json_schema
        return _schema_grammar(schema.schema_ or {}, param, f"{param} '{schema.name}'")
    return None


def _schema_grammar(schema: Json, param: str, called: str) -> str:
    from luthier.serve.constrain import json_schema

    try:
        return json_schema(schema)
    except LuthierError as error:
        message = f"Invalid schema for {called}: {error.why or error.what}"
        raise Refusal(message, code="invalid_json_schema", param=param) from error
