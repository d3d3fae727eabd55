"""The whole door over a real desk: real files, queue and database, workers without torch, a fake engine."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
from fastapi import FastAPI
from tests.api.fakes import FakeEngine, served
from tests.jobs.service.made import chat_lines, service_of

from luthier.api.app import make_app
from luthier.jobs.service.inference import Inference, Loaded
from luthier.jobs.service.service import Service
from luthier.model.render import Renderer
from luthier.model.template import Template
from luthier.model.tiny import CONTEXT, tiny_tokenizer
from luthier.serve.spec import ServeSpec

VERSION = "2025-04-01-preview"


@dataclass
class Whole:
    """A served house, and keys to it."""

    app: FastAPI
    service: Service
    engine: FakeEngine
    address: str
    keys: dict[str, str]
    """Secrets by name: `plain`, `admin`, and `other` of another project."""

    def client(self, key: str = "plain", **options: Any) -> openai.OpenAI:
        """Return the official client, as strict as it can be, which does not try again."""
        return openai.OpenAI(**self._options(key), **options)

    def async_client(self, key: str = "plain") -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(**self._options(key))

    def azure(self, key: str = "plain", **options: Any) -> openai.AzureOpenAI:
        own = {"azure_endpoint": self.address, "api_key": self.keys[key], "api_version": VERSION, "max_retries": 0}
        return openai.AzureOpenAI(**own, **options)

    def http(self, key: str | None = "plain") -> httpx2.Client:
        """Return a client for what the official one cannot send."""
        headers = {"authorization": f"Bearer {self.keys[key]}"} if key else {}
        return httpx2.Client(base_url=self.address, headers=headers, trust_env=False, timeout=60)

    def upload(self, data: bytes | None = None, *, key: str = "plain", **more: Any) -> Any:
        given = {"file": ("rows.jsonl", chat_lines() if data is None else data), "purpose": "fine-tune", **more}
        return self.client(key).files.create(**given)

    def _options(self, key: str) -> dict[str, Any]:
        own = {"base_url": f"{self.address}/v1", "api_key": self.keys[key], "max_retries": 0}
        return {**own, "_strict_response_validation": True}


@contextmanager
def whole_in(folder: Path) -> Iterator[Whole]:
    """Serve a home of its own."""
    service = service_of(folder)
    engine = FakeEngine()

    def open_fake(base_model: str, spec: ServeSpec, render: Renderer) -> Loaded:
        return Loaded(base_model, engine, Template(tiny_tokenizer(), render), CONTEXT, "fp_fake")

    app = make_app(service, Inference(service, service.settings, open_base=open_fake))
    made = {"plain": ("default", False), "admin": ("default", True), "other": ("other", False)}
    keys = {name: service.keys.create(name, project_id=id, admin=admin)[1] for name, (id, admin) in made.items()}
    with served(app) as address:
        yield Whole(app, service, engine, address, keys)


def refused(raised: Any, kind: type[openai.APIStatusError], **fields: Any) -> None:
    """Check the class of a client's error, and what it says; raises AssertionError."""
    error = raised.value
    assert type(error) is kind, error
    assert isinstance(error.body, dict) and set(error.body) == {"message", "type", "param", "code"}
    told = {**error.body, "status": error.status_code}
    assert {name: told[name] for name in fields} == fields
