"""Inference: one base model in memory, asked by name; requests become rows of its engine, answers come as spoken."""

import asyncio
import contextlib
import hashlib
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from luthier import __version__
from luthier.core.errors import DataError, LuthierError
from luthier.examples.example import Example, Message, Segment
from luthier.export.manifest import is_export
from luthier.jobs.export.opened import open_export
from luthier.jobs.service.measures import Measures
from luthier.jobs.service.refusal import Refusal
from luthier.jobs.service.settings import Remote
from luthier.jobs.service.talk import refusal_of
from luthier.model.render import Renderer
from luthier.serve.request import Ask, Engine, EngineStats, Piece, QueueFullError, Sampling, Ticket
from luthier.serve.spec import ServeSpec

if TYPE_CHECKING:
    from luthier.jobs.service.catalogue import Served
    from luthier.jobs.service.service import Service
    from luthier.jobs.service.settings import ServiceSettings
    from luthier.model.template import Template

THREADS = 16
"""For opening models and putting conversations into templates; more requests wait their turn."""
EMBEDDING_THREADS = 2
EMBEDDINGS_WAITING = 64
BUSY_AGAIN_S = 5
Result = TypeVar("Result")


@dataclass(frozen=True)
class Loaded:
    """A base model in memory."""

    base_model: "str | Remote"
    engine: Engine
    template: "Template"
    context: int
    """Tokens of prompt and answer together at most."""
    fingerprint: str
    """Changes with the weights and with this program: equal seeds give equal answers while it stays."""


Open = Callable[["str | Remote", ServeSpec, Renderer], Loaded]


def open_base(base_model: "str | Remote", spec: ServeSpec, render: Renderer) -> Loaded:
    """Load a base or an export with its engine, or reach another server's; raise ModelError where it cannot be had."""
    from luthier.model.base import resolve_base
    from luthier.model.load import load_tokenizer
    from luthier.model.template import Template
    from luthier.serve.engines.open import open_engine

    if isinstance(base_model, Remote):
        from luthier.serve.engines.open import open_remote

        base = resolve_base(base_model.tokenizer, lambda event: None)
        key = os.environ.get(base_model.key_env) if base_model.key_env else None
        template = Template(load_tokenizer(base.folder), render)
        engine = open_remote(base_model.url, base_model.model, base.folder, spec, key)
        return _loaded(base_model, engine, template, f"{base_model.url} {base_model.model}")
    if is_export(Path(base_model)):
        opened = open_export(Path(base_model), spec, render=render)
        hashes = " ".join(opened.manifest.files.values())
        return _loaded(base_model, opened.engine, opened.template, hashes)
    base = resolve_base(base_model, lambda event: None)
    engine = open_engine(spec.engine or "transformers", base.folder, spec)
    return _loaded(base_model, engine, Template(load_tokenizer(base.folder), render), base.weights_sha256)


def _loaded(base_model: "str | Remote", engine: Engine, template: "Template", weights: str) -> Loaded:
    digest = hashlib.sha256(f"{weights} {template.sha256} {__version__}".encode()).hexdigest()
    return Loaded(base_model, engine, template, int(engine.context), f"fp_{digest[:10]}")


def _compute_alone() -> None:
    import torch

    torch.set_num_threads(1)


class Inference:
    """The models that can be asked, at most one base of them in memory."""

    def __init__(self, service: "Service", settings: "ServiceSettings", *, open_base: Open = open_base) -> None:
        self._service = service
        self._spec = settings.serve
        self._open = open_base
        self._render = Renderer()
        self._loaded: Loaded | None = None
        self._users = 0
        self._state = threading.Lock()
        self._loading = threading.Lock()
        # Only the engine's thread computes with several; see there.
        self._threads = ThreadPoolExecutor(THREADS, "talk", _compute_alone)
        self._embedding = ThreadPoolExecutor(EMBEDDING_THREADS, thread_name_prefix="embed")
        self._embeddings = 0
        self.measures = Measures(self.stats, self._jobs_by_status)

    async def take(self, name: str, owner: str) -> "Seat":
        """Return the named model, loaded and held until the seat is closed; Refusal if unknown, or another is busy."""
        return await self._aside(self._take, name, owner)

    def forget(self, adapter: Path) -> None:
        """Let go of an adapter that is deleted."""
        with self._state:
            loaded = self._loaded
        if loaded:
            loaded.engine.unload(adapter)

    def stats(self) -> EngineStats | None:
        """Return the engine's numbers, or None while no base is in memory."""
        with self._state:
            return self._loaded.engine.stats() if self._loaded else None

    def close(self) -> None:
        """End the engine and the threads; requests under way are told."""
        with self._state:
            loaded, self._loaded = self._loaded, None
        if loaded:
            loaded.engine.close()
        self._threads.shutdown(cancel_futures=True)
        self._embedding.shutdown(cancel_futures=True)
        self._render.close()

    async def _aside(self, work: Callable[..., Result], *given: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *given)

    def _take(self, name: str, owner: str) -> "Seat":
        served = self._service.catalogue.resolve(name, owner)
        loaded = self._join(served.base_model)
        if loaded is None:
            with self._loading:
                loaded = self._join(served.base_model) or self._load(served.base_model)
        return Seat(self, served, loaded, owner)

    def _join(self, base_model: "str | Remote") -> Loaded | None:
        """Take a place at the base in memory if it is this one."""
        with self._state:
            if self._loaded is None or self._loaded.base_model != base_model:
                return None
            self._users += 1
            return self._loaded

    def _load(self, base_model: "str | Remote") -> Loaded:
        """Put a base into memory in place of an idle one, and take a place at it."""
        with self._state:
            if self._users:
                message = "The engine is busy with another base model, please try again later"
                raise Refusal(message, status=503, kind="server_error", code="engine_busy", retry_after_s=BUSY_AGAIN_S)
            before, self._loaded = self._loaded, None
        if before:
            before.engine.close()
        try:
            loaded = self._open(base_model, self._spec, self._render)
        except LuthierError as error:
            message = f"The model cannot be loaded: {error.what}"
            raise Refusal(message, status=503, kind="server_error", code="model_not_ready") from error
        with self._state:
            self._loaded, self._users = loaded, 1
        return loaded

    def _leave(self) -> None:
        with self._state:
            self._users -= 1

    def _jobs_by_status(self) -> dict[str, int]:
        return {row["status"]: row["jobs"] for row in self._service.database.query("count_jobs_by_status")}

    async def _embed(self, seat: "Seat", prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        with self._state:
            if self._embeddings >= EMBEDDINGS_WAITING:
                raise _full(1)
            self._embeddings += 1
        try:
            embed = seat.loaded.engine.embed
            return await asyncio.get_running_loop().run_in_executor(self._embedding, embed, prompts, seat.adapter)
        finally:
            with self._state:
                self._embeddings -= 1


class Seat:
    """One request's place at a model; closing it cancels what is still under way."""

    def __init__(self, inference: Inference, served: "Served", loaded: Loaded, owner: str) -> None:
        self._inference = inference
        self._owner = owner
        self._answers: list[Answers] = []
        self._open = True
        self.name = served.name
        """What really runs, for the reply."""
        self.adapter: Path | None = served.adapter
        self.loaded = loaded

    async def messages_ids(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> tuple[int, ...]:
        """Return a conversation's prompt, templated as in training; Refusal where the template refuses it."""
        return await self._inference._aside(self._messages_ids, messages, tools)

    async def text_ids(self, text: str) -> tuple[int, ...]:
        """Return raw text as a prompt, as raw text is trained."""
        return await self._inference._aside(self._text_ids, text)

    def ask(self, prompts: Sequence[Sequence[int]], samplings: Sequence[Sampling]) -> "Answers":
        """Put a row per prompt and sampling in line; Refusal with 429 where the line is full."""
        both = zip(prompts, samplings, strict=True)
        asks = [Ask(tuple(ids), sampling, self.adapter, self._owner) for ids, sampling in both]
        answers = Answers(self.loaded.engine, asks, self._inference.measures)
        self._answers.append(answers)
        return answers

    async def embed(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return a unit vector per prompt."""
        return await self._inference._embed(self, prompts)

    def close(self) -> None:
        """Give the place back; may be called again."""
        if self._open:
            self._open = False
            for answers in self._answers:
                answers.cancel()
            self._inference._leave()

    def _messages_ids(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> tuple[int, ...]:
        try:
            with self._inference._render.patience():
                return tuple(self.loaded.template.messages_ids(messages, tools))
        except DataError as error:
            raise refusal_of(error, "messages") from error

    def _text_ids(self, text: str) -> tuple[int, ...]:
        try:
            # Nothing before it, nothing to learn: a prompt that an example of raw text begins with.
            example = Example(segments=(Segment(text=text, target=False),))
            return tuple(self.loaded.template.prompt_ids(example))
        except DataError as error:
            raise refusal_of(error, "prompt") from error


class Answers:
    """The answers of one request while they are spoken: an async iterator of (which, piece)."""

    def __init__(self, engine: Engine, asks: Sequence[Ask], measures: Measures) -> None:
        self._loop = asyncio.get_running_loop()
        self._heard: asyncio.Queue[tuple[int, Piece | LuthierError]] = asyncio.Queue()
        self._measures = measures
        self._asked_at = time.perf_counter()
        self._first_at: dict[int, float] = {}
        self._tokens: dict[int, int] = dict.fromkeys(range(len(asks)), 0)
        self._ahead: list[tuple[int, Piece]] = []
        self._open = set(range(len(asks)))
        self._tickets: list[Ticket] = []
        try:
            for which, ask in enumerate(asks):
                self._tickets.append(engine.submit(ask, self._listener(which)))
        except QueueFullError as error:
            self.cancel()
            raise _full(error.retry_after_s) from error

    async def begun(self) -> None:
        """Wait for the first piece: what fails at once fails here, before anything is sent."""
        if not self._ahead:
            self._ahead.append(await self._next())

    async def __aiter__(self) -> AsyncIterator[tuple[int, Piece]]:
        while self._open or self._ahead:
            which, piece = self._ahead.pop() if self._ahead else await self._next()
            if piece.finish:
                self._open.discard(which)
            yield which, piece

    def cancel(self) -> None:
        """Take the rows out of the batch; those that have ended are not touched by it."""
        for ticket in self._tickets:
            ticket.cancel()

    async def _next(self) -> tuple[int, Piece]:
        which, heard = await self._heard.get()
        if isinstance(heard, LuthierError):
            raise _told(heard)
        return which, heard

    def _listener(self, which: int) -> Callable[[Piece | LuthierError], None]:
        def heard(said: Piece | LuthierError) -> None:
            if isinstance(said, Piece):
                self._measure(which, said)
            # The loop may have ended with the client; nobody is left to tell.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._heard.put_nowait, (which, said))

        return heard

    def _measure(self, which: int, piece: Piece) -> None:
        now = time.perf_counter()
        first = self._first_at.setdefault(which, now)
        self._tokens[which] += piece.new_tokens
        if piece.finish and piece.finish != "cancelled":
            self._measures.count_answer(
                first_token_s=first - self._asked_at, rest_s=now - first, tokens=self._tokens[which]
            )


def _full(retry_after_s: int) -> Refusal:
    message = f"Rate limit reached: too many requests wait for an answer. Please try again in {retry_after_s}s."
    return Refusal(message, status=429, kind="requests", code="rate_limit_exceeded", retry_after_s=retry_after_s)


def _told(error: LuthierError) -> Refusal:
    """Return what a client is told about an answer that failed."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, DataError):
        return refusal_of(error, "messages")
    message = f"The answer failed: {error.what}" + (f" ({error.why})" if error.why else "")
    return Refusal(message, status=500, kind="server_error", code=error.code)
