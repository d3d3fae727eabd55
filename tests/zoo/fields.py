"""Every text that the API takes, found in its own OpenAPI document, and a request that carries a payload in it."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

from tests.zoo.asking import form

Json = Any
Place = tuple[str, ...]
Make = Callable[[str], Json]
KNOWN = {
    "model": "tiny",
    "purpose": "fine-tune",
    "role": "user",
    "content": "hi",
    "bytes": 10,
}
"""What a field holds while another one is tried."""
SHORT = {"max_tokens": 2, "max_completion_tokens": 2, "max_output_tokens": 2}
"""Given everywhere: hostile texts need no long answers."""
AN_ID = "file-" + "a" * 24
AZURE = ("/openai/", "/subscriptions/")
DEEPEST = 9


@dataclass(frozen=True)
class Field:
    """One place for a text."""

    method: str
    path: str
    """With its holes, as the document writes it."""
    where: str
    """`path`, `query`, `header`, `json` or `form`."""
    place: Place
    make: Make
    """From a payload to the JSON body."""

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.where} {'.'.join(self.place)}"


@dataclass(frozen=True)
class Asked:
    """A request, ready to be sent."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes


def fields_of(document: Json) -> list[Field]:
    """Return all places for a text in all operations."""
    schema = Schema(document)
    operations = ((path, method, each) for path, item in document["paths"].items() for method, each in item.items())
    return [field for path, method, each in operations for field in _of_operation(schema, path, method.upper(), each)]


def _of_operation(schema: "Schema", path: str, method: str, operation: Json) -> Iterator[Field]:
    content = operation.get("requestBody", {}).get("content", {})
    plain = None
    if "application/json" in content:
        root = content["application/json"]["schema"]
        plain = schema.sample(root)
        yield from (Field(method, path, "json", place, make) for place, make in schema.texts(root))
    if "multipart/form-data" in content:
        known = schema.branches(content["multipart/form-data"]["schema"])[0].get("properties", {})
        names = {*known, "filename", "part header", "unknown field", "expires_after[anchor]"}
        yield from (Field(method, path, "form", (name,), _same) for name in sorted(names))
    for parameter in operation.get("parameters", []):
        yield Field(method, path, parameter["in"], (parameter["name"],), partial(_always, plain))


def _same(payload: str) -> str:
    return payload


def _always(value: Json, _payload: str) -> Json:
    return value


class Schema:
    """Reads the schemas of one document."""

    def __init__(self, document: Json) -> None:
        self.document = document

    def branches(self, schema: Json) -> list[Json]:
        """Return a schema's alternatives, without references."""
        while "$ref" in schema:
            schema = self.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        found = [part for key in ("anyOf", "oneOf", "allOf") for part in schema.get(key, [])]
        return [branch for part in found for branch in self.branches(part)] or [schema]

    def sample(self, schema: Json, name: str = "") -> Json:
        """Return the smallest value that fits."""
        branch = self.branches(schema)[0]
        kind = branch.get("type")
        if name in KNOWN and kind in ("string", "integer"):
            return KNOWN[name]
        if "const" in branch or "enum" in branch:
            return branch.get("const", branch.get("enum", [None])[0])
        if kind == "object" or "properties" in branch:
            wanted = branch.get("required", [])
            known = branch.get("properties", {})
            needed = {key: self.sample(part, key) for key, part in known.items() if key in wanted}
            return needed | {key: value for key, value in SHORT.items() if key in known}
        if kind == "array":
            return [self.sample(branch.get("items", {}), name)] * max(branch.get("minItems", 0), 1)
        plain = {"integer": max(branch.get("minimum", 1), 1), "number": 0.5, "boolean": True, "null": None}
        return plain.get(kind, "text")

    def texts(self, schema: Json, place: Place = ()) -> Iterator[tuple[Place, Make]]:
        """Yield each place for a text, with what makes the whole value around a payload there."""
        found: dict[Place, Make] = {}
        for branch in self.branches(schema) if len(place) < DEEPEST else ():
            found = dict(self._of_branch(branch, place)) | found
        yield from found.items()

    def _of_branch(self, branch: Json, place: Place) -> Iterator[tuple[Place, Make]]:
        if branch.get("type") in ("string", None) and "properties" not in branch:
            yield place, _same
        for key, part in branch.get("properties", {}).items():
            beside = self.sample(branch)
            for inner, make in self.texts(part, (*place, key)):
                yield inner, partial(_within, beside, key, make)
        if "items" in branch:
            for inner, make in self.texts(branch["items"], (*place, "0")):
                yield inner, partial(_in_list, make)
        if branch.get("type") == "object" and branch.get("additionalProperties", "properties" not in branch):
            yield (*place, "(name)"), lambda payload: {payload: "text"}
            yield (*place, "(value)"), lambda payload: {"text": payload}


def _within(beside: Json, key: str, make: Make, payload: str) -> Json:
    return {**beside, key: make(payload)}


def _in_list(make: Make, payload: str) -> Json:
    return [make(payload)]


def request_for(field: Field, payload: str, ids: dict[str, str] | None = None) -> Asked:
    """Return the field's request with the payload in it; `ids` fills the other holes of its path."""
    # Encoded once, so that the server decodes it to the payload.
    encoded = quote(payload.encode("utf-8", "surrogatepass"), safe="")
    name = field.place[0] if field.place else ""
    holes = (ids or {}) | ({name: encoded} if field.where == "path" else {})
    target = re.sub(r"\{(\w+)[^}]*\}", lambda hole: holes.get(hole[1], AN_ID), field.path)
    if field.where == "query":
        target += f"?{quote(name)}={encoded}"
    elif field.path.startswith(AZURE):
        target += "?api-version=2025-04-01-preview"
    if field.where == "form":
        return Asked(field.method, target, *_form(name, payload))
    headers = [("content-type", "application/json")]
    headers += [(name, _one_line(payload))] if field.where == "header" else []
    body = field.make(payload)
    return Asked(field.method, target, headers, b"" if body is None else json.dumps(body).encode())


def _one_line(payload: str) -> str:
    return payload.replace("\r", " ").replace("\n", " ")


def _form(name: str, payload: str) -> tuple[list[tuple[str, str]], bytes]:
    line = _one_line(payload)
    head = f"X-Evil: {line}\r\nContent-Type: {line}\r\n" if name == "part header" else ""
    fields = {"purpose": "fine-tune"}
    if name not in ("filename", "part header", "file", "data"):
        fields[line if name == "unknown field" else name] = payload
    filename = payload if name == "filename" else "rows.jsonl"
    kind, body = form(fields, filename, b'{"messages": []}\n', head=head.encode("utf-8", "surrogatepass"))
    return [kind], body
