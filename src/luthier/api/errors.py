"""Every failure as `{"error": {message, type, param, code}}`, in replies and in the OpenAPI document."""

import re
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from luthier.api.shapes import ErrorBody
from luthier.core.errors import DataError, LuthierError, ResourceError
from luthier.jobs.service.refusal import Refusal

STATUSES = {405: "Not allowed to {method} on {path}", 404: "Invalid URL ({method} {path})"}
IN_FORM = re.compile(r"(\w+)\[(\w+)\]")
OTHER_KIND = re.compile(r"_type$|^literal_error$")
"""Errors of a value that is of another kind altogether."""
NO_VALIDATION = ("HTTPValidationError", "ValidationError")
"""FastAPI's own shapes of an error; none of ours has them."""


def answer_errors(app: FastAPI) -> None:
    """Let an app word all its failures in the hosted service's shape."""
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(LuthierError, _luthier)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]


def _answer(refusal: Refusal) -> JSONResponse:
    fields = {"message": refusal.what, "type": refusal.kind, "param": refusal.param, "code": refusal.error_code}
    headers = {"Retry-After": str(refusal.retry_after_s)} if refusal.retry_after_s is not None else None
    return JSONResponse({"error": fields}, refusal.status, headers)


def _refused(request: Request, error: Refusal) -> JSONResponse:
    return _answer(error)


def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
    """Name the first field that is wrong; the hosted service answers 400, not FastAPI's 422."""
    found = [(_field(detail, error.body), detail) for detail in error.errors()]
    # Of the alternatives that a field may be, the one whose kind was met knows best what is wrong.
    same = [detail for param, detail in found if param == found[0][0]]
    first = next((detail for detail in same if not OTHER_KIND.search(detail["type"])), same[0])
    param = found[0][0]
    if first["type"] == "missing" and param:
        return _answer(
            Refusal(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
        )
    if first["type"] == "extra_forbidden":
        return _answer(
            Refusal(f"Unrecognized request argument supplied: {param}", param=param, code="unknown_parameter")
        )
    reason = first["msg"][:1].lower() + first["msg"][1:]
    return _answer(Refusal(f"Invalid '{param or 'body'}': {reason}.", param=param or None, code="invalid_value"))


def _field(detail: dict[str, Any], body: Any) -> str:
    """Return the dotted name of a field; pydantic's names of alternatives, which no body has, are left out."""
    source, *parts = detail["loc"]
    if source == "body" and isinstance(body, dict):
        named = [*_walk(body, parts)] + (parts[-1:] if detail["type"] == "missing" else [])
    else:
        named = parts
    return ".".join(IN_FORM.sub(r"\1.\2", str(part)) for part in named)


def _walk(value: Any, parts: list[int | str]) -> Iterator[int | str]:
    for part in parts:
        known = range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ()
        if part in known:
            value = value[part]
            yield part


def _http(request: Request, error: HTTPException) -> JSONResponse:
    words = STATUSES.get(error.status_code, "The request could not be read.")
    answer = _answer(
        Refusal(words.format(method=request.method, path=request.url.path[:200]), status=error.status_code)
    )
    answer.headers.update(error.headers or {})
    return answer


def _luthier(request: Request, error: LuthierError) -> JSONResponse:
    """Word an error of ours without this machine's paths: only what it is about and why."""
    if isinstance(error, ResourceError):
        return _answer(
            Refusal(f"The server cannot do this now: {error.what}.", status=507, kind="server_error", code=error.code)
        )
    if isinstance(error, DataError):
        return _answer(Refusal(f"{error.what}: {error.why}" if error.why else error.what, code=error.code))
    return _answer(
        Refusal(f"The server cannot do this: {error.what}.", status=500, kind="server_error", code=error.code)
    )


def _document(app: FastAPI) -> dict[str, Any]:
    """Return the app's OpenAPI document, with our errors in place of FastAPI's and the keys that all routes ask for."""
    if app.openapi_schema:
        return app.openapi_schema
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    shapes = document["components"]["schemas"]
    for name in NO_VALIDATION:
        shapes.pop(name, None)
    error = ErrorBody.model_json_schema(ref_template="#/components/schemas/{model}")
    shapes.update(error.pop("$defs"), ErrorBody=error)
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = {"description": "What is wrong.", "content": content}
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "api_key": {"type": "apiKey", "in": "header", "name": "api-key"},
    }
    document["security"] = [{"bearer": []}, {"api_key": []}]
    app.openapi_schema = document
    return document
