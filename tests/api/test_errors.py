"""Every failure has the hosted service's shape."""

from collections.abc import Iterator

import openai
import pytest
from pydantic import BaseModel
from tests.api.whole import Whole, whole_in

from luthier.core.errors import DataError, ModelError, ResourceError
from luthier.jobs.service.refusal import Refusal

SECRET = "planted-7311"


class Inner(BaseModel):
    """A part of a body."""

    size: int | list[int]


class Asked(BaseModel):
    """A body."""

    inner: Inner
    names: dict[str, int] = {}


ERRORS = {
    "refusal": Refusal("no", status=429, code="c", param="p", kind="k", retry_after_s=3),
    "full": ResourceError("the disk is full", where={"path": f"/home/{SECRET}"}),
    "data": DataError("row 3 is bad", why="it is empty", where={"file": f"/home/{SECRET}"}),
    "model": ModelError("the model cannot be read", where={"file": f"/home/{SECRET}"}),
    "unforeseen": ZeroDivisionError(SECRET),
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    with whole_in(tmp_path_factory.mktemp("errors")) as house:

        @house.app.get("/raise/{name}")
        @house.app.get("/raise/{name}/models")
        def fail(name: str) -> None:
            raise ERRORS[name]

        @house.app.post("/take")
        def take(asked: Asked, number: int = 0) -> None:
            """Take a body."""

        yield house


@pytest.mark.parametrize(
    ("name", "status", "message", "kind", "code"),
    [
        ("refusal", 429, "no", "k", "c"),
        ("full", 507, "The server cannot do this now: the disk is full.", "server_error", "no_resource"),
        ("data", 400, "row 3 is bad: it is empty", "invalid_request_error", "bad_data"),
        ("model", 500, "The server cannot do this: the model cannot be read.", "server_error", "bad_model"),
    ],
)
def test_errors_of_ours(house: Whole, name: str, status: int, message: str, kind: str, code: str) -> None:
    reply = house.http().get(f"/raise/{name}")
    error = {"message": message, "type": kind, "param": "p" if name == "refusal" else None, "code": code}
    assert (reply.status_code, reply.json()) == (status, {"error": error})
    assert reply.headers.get("retry-after") == ("3" if name == "refusal" else None)


def test_an_unforeseen_error_is_an_id_that_stands_in_the_log(house: Whole, caplog: pytest.LogCaptureFixture) -> None:
    reply = house.http().get("/raise/unforeseen")
    error = reply.json()["error"]
    assert reply.status_code == 500 and (error["type"], error["code"]) == ("server_error", None)
    id = reply.headers["x-request-id"]
    assert id in error["message"] and any(id in told and "ZeroDivisionError" in told for told in caplog.messages)
    assert SECRET not in reply.text + caplog.text


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/v1/nothing", 404, "Invalid URL (GET /v1/nothing)"),
        ("GET", "/", 404, "Invalid URL (GET /)"),
        ("GET", "/docs", 404, "Invalid URL (GET /docs)"),
        ("GET", "/v1/models/", 404, "Invalid URL (GET /v1/models/)"),
        ("PUT", "/v1/models", 405, "Not allowed to PUT on /v1/models"),
        ("POST", "/v1/files/a/content", 405, "Not allowed to POST on /v1/files/a/content"),
    ],
)
def test_addresses_that_are_not_there(house: Whole, method: str, path: str, status: int, words: str) -> None:
    reply = house.http().request(method, path)
    assert reply.status_code == status
    error = {"message": words, "type": "invalid_request_error", "param": None, "code": None}
    assert reply.json() == {"error": error}
    assert ("allow" in reply.headers) == (status == 405)


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({}, "inner", "Missing required parameter: 'inner'."),
        ({"inner": {}}, "inner.size", "Missing required parameter: 'inner.size'."),
        ({"inner": {"size": "a"}}, "inner.size", "Invalid 'inner.size': input should be a valid integer"),
        ({"inner": {"size": [1, "a"]}}, "inner.size", "Invalid 'inner.size': input should be a valid integer"),
        ({"inner": {"size": 1}, "names": {"a": "b"}}, "names.a", "Invalid 'names.a': input should be a valid integer"),
        ([], None, "Invalid 'body': input should be a valid dictionary"),
        (None, None, "Invalid 'body': field required"),
    ],
)
def test_a_wrong_field_is_named(house: Whole, body: object, param: str | None, words: str) -> None:
    more = {} if body is None else {"json": body}
    reply = house.http().post("/take", **more)
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, param) and error["message"].startswith(words), error
    assert set(reply.json()) == {"error"}


def test_a_wrong_query_is_named(house: Whole) -> None:
    reply = house.http().post("/take?number=a", json={"inner": {"size": 1}})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "number")


def test_the_client_raises_its_own_errors(house: Whole) -> None:
    key = house.keys["plain"]
    for address, secret, kind in (
        ("/v1", "sk-none", openai.AuthenticationError),
        ("/raise/full", key, openai.InternalServerError),
        ("/raise/refusal", key, openai.RateLimitError),
        ("/v2", key, openai.NotFoundError),
    ):
        client = openai.OpenAI(base_url=house.address + address, api_key=secret, max_retries=0)
        with pytest.raises(kind) as raised:
            client.models.list()
        assert isinstance(raised.value.body, dict) and raised.value.body["message"]
