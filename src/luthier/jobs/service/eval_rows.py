"""The rows of an eval's run, each held against the eval's schema."""

from collections.abc import Iterator
from typing import Any

from luthier.core.errors import DataError
from luthier.data.rows import RowIssue
from luthier.data.sources.jsonl import read_jsonl
from luthier.jobs.service.eval_shapes import FileContent, FileId, Json, Row
from luthier.jobs.service.files import Files
from luthier.jobs.service.refusal import Refusal

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}


def rows_of(source: FileContent | FileId, files: Files, owner: str) -> Iterator[Row]:
    """Yield the rows; raises DataError, or a Refusal where the file is gone."""
    if isinstance(source, FileContent):
        yield from source.content
        return
    for row in read_jsonl(files.path(source.id, owner), source.id):
        if isinstance(row, RowIssue):
            raise DataError("the file cannot be read", where={"file": source.id, "line": row.row}, why=row.reason)
        value = row.value if isinstance(row.value, dict) else {}
        item, sample = value.get("item"), value.get("sample")
        if not isinstance(item, dict) or not isinstance(sample, dict | None):
            why = 'each line must be {"item": {…}}, with `"sample": {…}` where an answer is at hand'
            raise DataError("the file cannot be read", where={"file": source.id, "line": row.row}, why=why)
        yield Row(item=item, sample=sample)


def check_rows(source: FileContent | FileId, schema: Json, files: Files, owner: str) -> None:
    """Raise DataError for the first row that the schema does not allow, and where there is none."""
    number = 0
    for number, row in enumerate(rows_of(source, files, owner), 1):
        if wrong := misfit(row.item, schema, "item"):
            raise DataError(f"row {number} does not fit the item_schema: {_shown(wrong)}")
    if not number:
        raise DataError("there are no rows")


def misfit(value: object, schema: Any, path: str) -> str | None:
    """Return how a value breaks a JSON schema's type, enum, required, properties, items or additionalProperties."""
    if not isinstance(schema, dict):
        return None
    if wrong := _wrong_type(value, schema.get("type"), path):
        return wrong
    if isinstance(schema.get("enum"), list) and value not in schema["enum"]:
        return f"{path} is none of the allowed values"
    if isinstance(value, list):
        return _first(misfit(part, schema.get("items"), f"{path}[{place}]") for place, part in enumerate(value))
    return _misfit_object(value, schema, path) if isinstance(value, dict) else None


def _misfit_object(value: Json, schema: Json, path: str) -> str | None:
    properties = schema.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    required = schema.get("required")
    missing = [name for name in required if name not in value] if isinstance(required, list) else []
    if missing:
        return f"{path} has no {missing[0]!r}"
    more = [name for name in value if name not in properties] if schema.get("additionalProperties") is False else []
    if more:
        return f"{path} has {more[0]!r}, which is not allowed"
    return _first(misfit(part, properties.get(name), f"{path}.{name}") for name, part in value.items())


def _first(found: Iterator[str | None]) -> str | None:
    return next((wrong for wrong in found if wrong), None)


def _wrong_type(value: object, wanted: object, path: str) -> str | None:
    names = [wanted] if isinstance(wanted, str) else wanted if isinstance(wanted, list) else []
    names = [name for name in names if isinstance(name, str)]
    if not names or any(_is(value, name) for name in names):
        return None
    return f"{path} is not of the type {' or '.join(names)}"


def _is(value: object, name: str) -> bool:
    # Python holds True for a number, JSON does not; and 1.0 is an integer there.
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, TYPES.get(name, ()))


def _shown(text: str) -> str:
    """Return a text with a client's names in it so that any reply can carry it."""
    return text[:300].encode(errors="backslashreplace").decode()


def check_schema(schema: Json) -> None:
    """Refuse a schema whose types are none."""
    waiting: list[tuple[str, Any]] = [("item_schema", schema)]
    while waiting:
        path, part = waiting.pop()
        if not isinstance(part, dict):
            continue
        wanted = part.get("type")
        for name in wanted if isinstance(wanted, list) else [wanted]:
            if name is not None and (not isinstance(name, str) or name not in TYPES):
                message = f"Invalid schema: {_shown(path)}.type is none of {', '.join(TYPES)}."
                raise Refusal(message, code="invalid_json_schema", param=f"data_source_config.{_shown(path)}")
        properties = part.get("properties")
        waiting += (
            [(f"{path}.properties.{name}", inner) for name, inner in properties.items()]
            if isinstance(properties, dict)
            else []
        )
        waiting += [(f"{path}.items", part.get("items"))]
