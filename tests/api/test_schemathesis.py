"""Requests made from the app's own OpenAPI document: no server error, and no reply that the document does not allow."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from tests.api.fakes import FakeEngine, served
from tests.api.graded import speak
from tests.jobs.service.made import chat_lines, put, service_of

from luthier.api.app import make_app
from luthier.jobs.service.inference import Inference, Loaded
from luthier.model.render import Renderer
from luthier.model.template import Template
from luthier.model.tiny import CONTEXT, tiny_tokenizer
from luthier.serve.spec import ServeSpec

CASES = 30 if os.environ.get("LUTHIER_PROOF") else 3
"""Cases for each operation and kind of data: over 2,000 in all by `make proof`, over 200 by `make test`."""
LEAST = 2000 if os.environ.get("LUTHIER_PROOF") else 200
HELD = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)
load_all_checks()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """A whole service over a fake engine and fake workers, with a file in it."""
    service = service_of(tmp_path_factory.mktemp("fuzzed"))
    put(service, chat_lines())

    def open_fake(base_model: str, spec: ServeSpec, render: Renderer) -> Loaded:
        return Loaded(base_model, FakeEngine(speak), Template(tiny_tokenizer(), render), CONTEXT, "fp_fake")

    made = make_app(service, Inference(service, service.settings, open_base=open_fake))
    made.state.secret = service.keys.create("fuzz", admin=True)[1]
    return made


@pytest.fixture(scope="module")
def address(app: FastAPI) -> Iterator[str]:
    with served(app) as address:
        yield address


def test_no_server_error_and_no_reply_beside_the_document(
    app: FastAPI, address: str, record_property: Callable[[str, object], None]
) -> None:
    known = {"authorization": f"Bearer {app.state.secret}"}
    schema = schemathesis.openapi.from_dict(small(app.openapi()))
    cases = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            cases += fuzz(operation, mode, lambda case: case.call(base_url=address, headers=known))
    record_property("claim", "schemathesis on the project's own OpenAPI document: 0 server errors, 0 schema violations")
    record_property("cases", cases)
    assert cases >= LEAST


def small(value: Any) -> Any:
    """Return a document without limits of megabytes: a text beyond such a limit is a request of its own size."""
    if isinstance(value, dict):
        return {key: small(part) for key, part in value.items() if not (key == "maxLength" and part > 1_000)}
    return [small(part) for part in value] if isinstance(value, list) else value


def fuzz(operation: APIOperation, mode: GenerationMode, send: Callable[[Case], Any]) -> int:
    """Send cases of one operation, check each reply, and return how many were sent."""
    sent = 0
    checks = CHECKS.get_by_names(HELD)

    @seed(0)
    @settings(
        max_examples=CASES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(mode))
    def run(case: Case) -> None:
        nonlocal sent
        response = send(case)
        sent += 1
        case.validate_response(response, checks=checks)

    run()
    return sent
