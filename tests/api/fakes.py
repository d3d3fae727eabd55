"""A service whose engine says what a test tells it to, behind the real routes; and clients that ask it."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import openai
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from luthier.api.errors import answer_errors
from luthier.api.routes import chat, completions, embeddings, metrics, responses
from luthier.core.errors import LuthierError
from luthier.jobs.service.inference import Inference, Loaded
from luthier.jobs.service.refusal import no_model
from luthier.model.render import Renderer
from luthier.model.template import Template
from luthier.model.tiny import CONTEXT, tiny_tokenizer
from luthier.serve.request import Ask, Chance, EngineStats, Heard, Piece, QueueFullError, Spoken
from luthier.serve.spec import ServeSpec

OWNER = "default"
HELLO = [{"role": "user", "content": "hello"}]
Script = Callable[[Ask], list[Piece | LuthierError]]


def pieces_of(text: str, *, size: int = 3, finish: str = "stop", logprobs: int | None = None) -> list[Piece]:
    """Return a text in small pieces, with a token for each."""
    cut = [text[at : at + size] for at in range(0, len(text), size)] or [""]
    told = []
    for number, part in enumerate(cut):
        chance = Chance(number, part, part.encode(), -0.5)
        other = Chance(number + 1, "☃", "☃".encode(), float("-inf"))
        tokens = () if logprobs is None else (Spoken(chance, (chance, other)[:logprobs]),)
        last = finish if number == len(cut) - 1 else None
        told.append(Piece(part, tokens, 1, 2 if number == 0 else 0, last))
    return told


def echo(ask: Ask) -> list[Piece | LuthierError]:
    """Say the seed and the adapter, so that each answer shows what was asked."""
    name = ask.adapter.name if ask.adapter else "base"
    return [*pieces_of(f"{name} says hello, {ask.sampling.seed}", logprobs=ask.sampling.logprobs)]


@dataclass
class Ticket:
    """A fake request under way."""

    cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        self.cancelled.set()


class FakeEngine:
    """Answers from a thread of its own, as the script says; `pause_s` between the pieces."""

    def __init__(self, script: Script = echo, *, room: int = 1000, pause_s: float = 0.0) -> None:
        self.script, self.room, self.pause_s = script, room, pause_s
        self.asks: list[Ask] = []
        self.tickets: list[Ticket] = []
        self.forgotten: list[Path] = []
        self.closed = False

    def submit(self, ask: Ask, heard: Heard) -> Ticket:
        if len(self.asks) >= self.room:
            raise QueueFullError("the line is full")
        ticket = Ticket()
        self.asks.append(ask)
        self.tickets.append(ticket)
        threading.Thread(target=self._speak, args=(ask, heard, ticket), daemon=True).start()
        return ticket

    def _speak(self, ask: Ask, heard: Heard, ticket: Ticket) -> None:
        for said in self.script(ask):
            if ticket.cancelled.wait(self.pause_s):
                heard(Piece("", finish="cancelled"))
                return
            heard(said)

    def embed(self, prompts: Sequence[Sequence[int]], adapter: Path | None = None) -> list[list[float]]:
        return [[0.6, 0.8, 0.0, float(len(prompt))] for prompt in prompts]

    def unload(self, adapter: Path) -> None:
        self.forgotten.append(adapter)

    def stats(self) -> EngineStats:
        return EngineStats(1, 2, 30, 10, 40, 2, 5000, 7)

    def close(self) -> None:
        self.closed = True


class FakeService:
    """Two bases, a tuned model and an alias of it."""

    def __init__(self) -> None:
        self.catalogue = self
        self.database = self
        self.names = {
            "tiny": ("tiny", "tiny-base", None),
            "other": ("other", "other-base", None),
            "ft:tiny:luthier::abc": ("ft:tiny:luthier::abc", "tiny-base", Path("/adapters/abc")),
            "gpt-4o-mini": ("tiny", "tiny-base", None),
        }

    def resolve(self, name: str, owner: str) -> SimpleNamespace:
        if name not in self.names or owner != OWNER:
            raise no_model(name)
        real, base, adapter = self.names[name]
        return SimpleNamespace(name=real, base=real, base_model=base, adapter=adapter)

    def query(self, name: str) -> list[dict[str, object]]:
        assert name == "count_jobs_by_status"
        return [{"status": "running", "jobs": 2}]


def inference_with(engine: Callable[[str], object]) -> Inference:
    """Return an inference over engines made by name of the base."""

    def open_fake(base_model: str, spec: ServeSpec, render: Renderer) -> Loaded:
        return Loaded(base_model, engine(base_model), Template(tiny_tokenizer(), render), CONTEXT, "fp_fake")

    return Inference(FakeService(), SimpleNamespace(serve=ServeSpec()), open_base=open_fake)


class WithKey:
    """Stands in for the guard: every request has a key, of the project that its header names."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        project = dict(scope.get("headers", ())).get(b"x-project", OWNER.encode()).decode()
        scope["state"] = {**scope.get("state", {}), "key": SimpleNamespace(project_id=project, admin=False)}
        await self.app(scope, receive, send)


def app_with(inference: Inference) -> FastAPI:
    """Return the talk routes as an app, with errors as the service's door words them."""
    app = FastAPI()
    app.state.inference = inference

    answer_errors(app)
    for routes in (chat, completions, embeddings, responses):
        app.include_router(routes.router, prefix="/v1")
    app.include_router(metrics.router)
    app.add_middleware(WithKey)
    app.add_middleware(metrics.CountRequests, measures=inference.measures)
    return app


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve an app on a free port of this machine, and yield its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def client_of(address: str, **options: object) -> openai.OpenAI:
    """Return the official client, which does not try again."""
    return openai.OpenAI(base_url=f"{address}/v1", api_key="sk-test", max_retries=0, **options)


def events_in(text: str) -> list[dict]:
    """Return the data of server-sent events, without the last word."""
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


@dataclass
class Room:
    """A served fake engine."""

    engine: FakeEngine
    address: str
    inference: Inference

    def client(self, **options: object) -> openai.OpenAI:
        return client_of(self.address, **options)

    def ask(self, **body: object):
        return self.client().chat.completions.create(**{"model": "tiny", "messages": HELLO, **body})

    def refused(self, **body: object) -> openai.APIStatusError:
        with pytest.raises(openai.APIStatusError) as refused:
            self.ask(**body)
        return refused.value
