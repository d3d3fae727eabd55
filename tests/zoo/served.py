"""The whole service in the watched process, and what is sent to it there."""

import asyncio
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from tests.api.fakes import FakeEngine
from tests.zoo.asking import HOST, Answer, ask, form
from tests.zoo.fields import Field, fields_of, request_for
from tests.zoo.payloads import payloads, some

from luthier.jobs.service.inference import Inference, Loaded
from luthier.jobs.service.service import Service, open_service
from luthier.jobs.service.settings import ServiceSettings
from luthier.model.render import Renderer
from luthier.serve.spec import ServeSpec

TRAIN = {"threads": 1, "precision": "fp32", "micro_batch_tokens": 4096, "adapter": {"name": "lora", "r": 2}}
ROW = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}
ROWS = (json.dumps(ROW) + "\n").encode() * 12
PLANTED = b"planted outside"
"""What lies in a file outside the home."""
SLOW = re.compile(r"\bsource$")
"""Fields whose payload starts a walled process of its own."""


@dataclass
class House:
    """A service behind its real door, with keys of two projects and a revoked one."""

    app: FastAPI
    service: Service
    home: Path
    key: str
    other_key: str
    revoked_key: str

    def ask(self, method: str, target: str, body: Any = None, *, key: str | None = None) -> Answer:
        """Send JSON, or nothing."""
        headers = [HOST, ("authorization", f"Bearer {key or self.key}"), ("content-type", "application/json")]
        return ask(self.app, method, target, headers, b"" if body is None else json.dumps(body).encode())

    def upload(self, content: bytes, *, purpose: str = "fine-tune", filename: str = "rows.jsonl") -> Answer:
        """Send a file."""
        kind, body = form({"purpose": purpose}, filename, content)
        return ask(self.app, "POST", "/v1/files", [HOST, ("api-key", self.key), kind], body)


def build_service(folder: Path, base: Path) -> Service:
    """Open a service in a new home; nothing works in the background."""
    values = {"bases": {"tiny": str(base)}, "aliases": {"gpt-4o-mini-2024-07-18": "tiny"}, "train": TRAIN}
    return open_service(folder / "home", ServiceSettings.model_validate(values))


def build_house(folder: Path, base: Path, *, fake: bool = False) -> House:
    """Open a service behind its door, with keys; a fake engine says little, whatever it is asked."""
    from luthier.api.app import make_app

    service = build_service(folder, base)
    secrets = {name: service.keys.create(name, project_id=name)[1] for name in ("one", "two")}
    revoked, secret = service.keys.create("old", project_id="one", admin=True)
    service.keys.revoke(revoked.id)
    app = make_app(service, Inference(service, service.settings, open_base=_open_fake) if fake else None)
    return House(app, service, folder / "home", secrets["one"], secrets["two"], secret)


def _open_fake(base_model: str, spec: ServeSpec, render: Renderer) -> Loaded:
    from luthier.model.template import Template
    from luthier.model.tiny import CONTEXT, tiny_tokenizer

    return Loaded(base_model, FakeEngine(room=10**9), Template(tiny_tokenizer(), render), CONTEXT, "fp_fake")


_houses: dict[str, House] = {}


def _house(folder: str, base: str) -> House:
    if folder not in _houses:
        _houses[folder] = build_house(Path(folder), Path(base), fake=True)
    return _houses[folder]


def fields_of_house(house: House) -> list[Field]:
    """Return the fields of all routes; Azure's are hidden from the app's own document, so they are put into another."""
    from luthier.api.routes import azure

    hidden = FastAPI()
    hidden.include_router(azure.router, prefix="/openai")
    hidden.include_router(azure.management)
    return [*fields_of(house.app.openapi()), *fields_of(hidden.openapi())]


def warm(folder: str, base: str) -> list[str]:
    """Open the house and use each route once, so that libraries are there; return the fields."""
    house = _house(folder, base)
    fields = fields_of_house(house)
    for field in fields:
        _sent(house, field, "text", {})
    return [str(field) for field in fields]


def attack(folder: str, base: str, outside: str, canary: str, *, count: int | None, first: int, last: int) -> Any:
    """Send payloads in the fields of this range: a few of them, or all; return what must not have come back."""
    house = _house(folder, base)
    texts = payloads(Path(outside), Path(canary))
    statuses: Counter[int] = Counter()
    wrong = []
    for number, field in enumerate(fields_of_house(house)[first:last], first):
        slow = 100 if SLOW.search(".".join(field.place)) else len(texts)
        for payload in some(texts, min(count or len(texts), slow), number):
            answer = _sent(house, field, payload, _ids(house))
            statuses[answer.status] += 1
            if not _is_right(answer):
                wrong.append([str(field), payload[:80], answer.status, answer.body[:300].decode(errors="replace")])
    return {"statuses": statuses, "wrong": wrong[:20], "count": len(wrong)}


def send(folder: str, base: str, requests: list[list[Any]]) -> list[list[Any]]:
    """Send requests as they are: method, target, headers, body as Latin-1 text."""
    house = _house(folder, base)
    answers = []
    for method, target, headers, body in requests:
        named = [("authorization", f"Bearer {house.key}") if pair == ["key", ""] else tuple(pair) for pair in headers]
        answer = ask(house.app, method, target, named, body.encode("latin-1"))
        answers.append([answer.status, answer.headers, answer.body.decode("latin-1")])
    return answers


def _ids(house: House) -> dict[str, str]:
    """Return ids of things that are there, made anew where an attack has removed them."""
    known = vars(house).setdefault("ids", {})
    if not known:
        file = house.upload(ROWS).json["id"]
        known["file_id"] = file
        job = house.ask("POST", "/v1/fine_tuning/jobs", {"model": "tiny", "training_file": file}).json["id"]
        known["fine_tuning_job_id"] = known["job_id"] = job
        upload = {"purpose": "fine-tune", "filename": "a.jsonl", "bytes": 10, "mime_type": "text/jsonl"}
        known["upload_id"] = house.ask("POST", "/v1/uploads", upload).json["id"]
        check = {"type": "string_check", "name": "same", "input": "a", "reference": "a", "operation": "eq"}
        wanted = {"data_source_config": {"type": "custom", "item_schema": {}}, "testing_criteria": [check]}
        known["eval_id"] = house.ask("POST", "/v1/evals", wanted).json["id"]
        known["model"] = known["deployment_id"] = known["deployment"] = "tiny"
    return known


def _sent(house: House, field: Field, payload: str, ids: dict[str, str]) -> Answer:
    asked = request_for(field, payload, ids)
    headers = [HOST, ("authorization", f"Bearer {house.key}"), *asked.headers]
    try:
        return ask(house.app, asked.method, asked.target, headers, asked.body)
    except (asyncio.CancelledError, RuntimeError) as error:
        return Answer(status=599, body=f"{type(error).__name__} {error}".encode())


def _is_right(answer: Answer) -> bool:
    """Tell whether an answer is one, shows nothing from outside, and is worded as an error where it is one."""
    if not 200 <= answer.status < 500 or PLANTED in answer.body:
        return False
    try:
        return answer.status < 400 or isinstance(answer.error["message"], str)
    except (ValueError, AssertionError, KeyError):
        return False
