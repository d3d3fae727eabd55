"""The default engine: a transformers model, many adapters beside it, and one thread that computes.

New requests join between steps, and rows of different adapters share a step. Nothing of torch's runs elsewhere: PEFT's
switching of adapters is not thread-safe, and one thread with a mixed batch is exact.
"""

import contextlib
import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import PreTrainedConfig, PreTrainedModel

from luthier.core.errors import LuthierError, ModelError
from luthier.model.device import physical_cores
from luthier.model.load import context_length, load_model, load_tokenizer
from luthier.model.template import Template
from luthier.serve.adapters import Size
from luthier.serve.constrain import Grammars
from luthier.serve.lora import Route, route_linears
from luthier.serve.pool import FAMILIES, NAME, Pool, Prompt, Shape, Together
from luthier.serve.prefix import Prefixes, Whose
from luthier.serve.request import Ask, EngineError, EngineStats, Heard, Piece, QueueFullError, answer_limit
from luthier.serve.rows import Row
from luthier.serve.sampling import Chooser
from luthier.serve.shelf import Shelf
from luthier.serve.spec import ServeSpec
from luthier.serve.text import Speaker

LONGEST_WAIT_S = 60
AHEAD_TOKENS = 64
"""Room that an answer needs to begin beside others, so that it does not go back in line at once."""
LOG = logging.getLogger(__name__)
Order = Callable[[], None]
Result = TypeVar("Result")
_Loaded = tuple[PreTrainedModel, Route, Pool, dict[str, Size]]


@dataclass(frozen=True)
class _Piece:
    """Tokens of a prompt that one pass computes."""

    row: Row
    prompt: Prompt
    start: int
    ids: Sequence[int]
    is_last: bool
    """Whether the prompt is complete afterwards."""


@dataclass
class _Embedding:
    """A prompt's vector while it is computed."""

    ids: Sequence[int]
    adapter: Path | None
    prompt: Prompt | None = None
    sum_D: torch.Tensor | float = 0.0
    vector: list[float] | None = None


class TransformersEngine:
    """An engine over one base model; see `serve.request.Engine`."""

    def __init__(self, base_folder: Path, spec: ServeSpec) -> None:
        """Load the base; raise ModelError where its attention is not one that is served."""
        self._spec = spec
        self._rows: list[Row] = []
        self._reading: deque[Row] = deque()
        self._careful = 0
        """Passes in which prompts come one by one."""
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._state = threading.Lock()
        self._in_line = 0
        self._closed = False
        self._counts = dict.fromkeys(("prompt", "cached", "answer", "steps", "ended"), 0)
        self._busy_s = 0.0
        loaded: Future[_Loaded] = Future()
        self._thread = threading.Thread(target=self._run, args=(base_folder, loaded), name="engine", daemon=True)
        self._thread.start()
        self._model, self._route, self._pool, sizes = loaded.result()
        self.context = min(context_length(base_folder), _same_positions(self._model.config))
        template = Template(load_tokenizer(base_folder))
        self._template, self._tokenizer, self.stop_ids = template, template.tokenizer, template.stop_ids
        self._shape = Shape.of(self._model)
        self._grammars = Grammars(self._tokenizer, self._model.get_output_embeddings().size[1])
        self._prefixes = Prefixes(spec.prefix_bytes)
        self._shelf = Shelf(sizes, spec.adapter_bytes)
        # It takes a second, which answers under way should not wait for.
        threading.Thread(target=lambda: self._grammars.own, name="grammars", daemon=True).start()

    def submit(self, ask: Ask, heard: Heard) -> Row:
        """Put a request in line and return at once; raise QueueFullError where the line is full."""
        limit = answer_limit(ask, self.context)
        row = Row(ask, heard, limit, Speaker(self._tokenizer, ask.sampling.stop), Chooser(ask.sampling))
        with self._state:
            self._check_open()
            if self._in_line >= self._spec.queue + self._spec.rows:
                raise self._full()
            self._in_line += 1
            # Under the lock, so that nobody gets in line after the end.
            if ask.adapter is None:
                self._orders.put(lambda: self._reading.append(row))
            else:
                self._shelf.hold(ask.adapter, lambda error: self._orders.put(lambda: self._admit(row, error)))
        return row

    def embed(self, prompts: Sequence[Sequence[int]], adapter: Path | None = None) -> list[list[float]]:
        """Return one mean-pooled, unit-length vector per prompt; waits for its turn on the engine's thread."""
        with self._holding(adapter):
            return [self._embedded(ids, adapter) for ids in prompts]

    def render(self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] = ()) -> str:
        """Return a conversation as text; see `serve.request.Engine`."""
        return self._template.as_text(messages, tools)

    def encode(self, rendered: str) -> list[int]:
        """Return a rendered prompt's ids; templates write their own BOS."""
        return self._template.ids_of(rendered)

    def chances(
        self, prompt: Sequence[int], answer: Sequence[int], adapter: Path | None = None
    ) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return log-probabilities along a given answer; see `serve.request.Engine`."""
        with self._holding(adapter):
            return self._on_thread(lambda: self._chances([*prompt, *answer], len(prompt), adapter))

    def _chances(self, ids: list[int], prompt: int, adapter: Path | None) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Read the prompt and then each token of the answer by itself, as in an answer."""
        read, steps = Prompt(self._shape.empty(len(ids))), []
        for start, end in [(0, prompt), *((place, place + 1) for place in range(prompt, len(ids)))]:
            self._route.direct(self._shelf.registry, [(adapter, end - start)], [adapter])
            logits = self._model(
                input_ids=torch.tensor([ids[start:end]]),
                position_ids=torch.arange(start, end)[None],
                use_cache=False,
                logits_to_keep=1,
                attending=read,
            ).logits[0, -1]
            read.done = end
            steps.append(torch.log_softmax(logits.float(), dim=-1))
        return torch.stack(steps).numpy()

    def unload(self, adapter: Path) -> None:
        """Forget an adapter; requests under way with it end first."""
        self._shelf.unload(adapter)
        self._orders.put(lambda: self._prefixes.forget(adapter))

    def stats(self) -> EngineStats:
        """Return the present state."""
        registry, running = self._shelf.registry, len(self._rows)
        return EngineStats(
            running=running,
            waiting=max(self._in_line - running, 0),
            prompt_tokens=self._counts["prompt"],
            cached_prompt_tokens=self._counts["cached"],
            answer_tokens=self._counts["answer"],
            adapters=len(registry.places),
            adapter_bytes=registry.bytes,
            steps=self._counts["steps"],
        )

    def close(self) -> None:
        """End the thread; requests under way are told."""
        with self._state:
            self._closed = True
        self._shelf.close()
        self._orders.put(None)
        self._thread.join()

    def _run(self, base_folder: Path, loaded: Future[_Loaded]) -> None:
        """Load, and compute until the end.

        Loading is computing, and so is filling a large tensor. OpenMP keeps helpers for each thread that computes, and
        once there are more than cores, all of them sleep between any two products: measured, 16 rows with adapters took
        118 instead of 40 ms. So nothing else in this process computes with more than one thread.
        """
        torch.set_num_threads(self._spec.threads or physical_cores())
        try:
            loaded.set_result(_load(base_folder))
        except BaseException as error:  # noqa: BLE001 (raised again where it was asked for)
            loaded.set_exception(error)
            return
        with torch.inference_mode():
            while self._take_orders():
                started = time.perf_counter()
                try:
                    self._step()
                except Exception as error:  # noqa: BLE001 (a step's trouble must not end the thread)
                    rows, self._rows, self._pool = self._rows, [], Pool(self._shape)
                    self._fail(rows, error)
                self._busy_s += time.perf_counter() - started
            self._tell_all()

    def _tell_all(self) -> None:
        """Do what was asked for before the end, and tell those whose answers it cuts."""
        while not self._orders.empty():
            order = self._orders.get()
            if order is not None:
                order()
        for row in [*self._rows, *self._reading]:
            row.tell(EngineError("the engine is closed"))

    def _take_orders(self) -> bool:
        """Do what was asked for meanwhile; wait where there is nothing else to do. False: the end."""
        while not self._orders.empty() or not (self._rows or self._reading):
            order = self._orders.get()
            if order is None:
                return False
            order()
        return True

    def _admit(self, row: Row, error: LuthierError | None) -> None:
        if error is None:
            self._reading.append(row)
        else:
            self._gone(row)
            row.tell(error)

    def _pieces(self) -> list[_Piece]:
        """Return the next prompts' tokens, up to the spec's number, as far as there are free rows."""
        pieces: list[_Piece] = []
        budget = self._spec.prefill_tokens
        for row in list(self._reading):
            if budget <= 0 or not self._has_room(row, pieces) or (pieces and self._careful):
                break
            try:
                prompt = row.prompt = row.prompt or self._begin(row)
            except Exception as error:  # noqa: BLE001 (a prompt's trouble is nobody else's)
                self._reading.remove(row)
                self._fail([row], error)
            else:
                ids = row.ids[prompt.done : prompt.done + budget]
                is_last = prompt.done + len(ids) == len(row.ids)
                pieces.append(_Piece(row, prompt, prompt.done, ids, is_last))
                budget -= len(ids)
        return pieces

    def _has_room(self, row: Row, pieces: Sequence[_Piece]) -> bool:
        """Say whether a row fits beside those under way, with room for some tokens; alone it always does."""
        tokens = max(len(one.ids) for one in (row, *(piece.row for piece in pieces))) + AHEAD_TOKENS
        rows = len(pieces) + 1
        fits = self._pool.bytes_with(tokens, rows) <= self._spec.answer_bytes
        return fits and len(self._rows) + rows <= self._spec.rows or not (self._rows or pieces)

    def _make_room(self) -> None:
        """Put rows that no longer fit back in line, the last to come first; they go on where they were."""
        while len(self._rows) > 1 and self._pool.bytes_with() > self._spec.answer_bytes:
            place = max(range(len(self._rows)), key=lambda place: self._rows[place].asked_at)
            self._reading.appendleft(self._leave(place))

    def _whose(self, row: Row) -> Whose:
        return row.ask.owner, row.adapter, self._shelf.registry.loads[row.adapter] if row.adapter else 0

    def _begin(self, row: Row) -> Prompt:
        row.cached, known = self._prefixes.find(self._whose(row), row.ids)
        prompt = Prompt(self._shape.empty(len(row.ids)), row.cached)
        if known is not None:
            prompt.kv[..., : row.cached, :] = known
        if row.ask.sampling.grammar and row.follower is None:
            row.follower = self._grammars.follow(row.ask.sampling.grammar)
        return prompt

    def _step(self) -> None:
        """Compute one token of each row and, in the same pass, the next prompts' tokens."""
        for place in reversed(range(len(self._rows))):
            if self._rows[place].cancelled:
                self._drop(self._leave(place))
        for row in [row for row in self._reading if row.cancelled]:
            self._reading.remove(row)
            self._drop(row)
        self._make_room()
        pieces = self._pieces()
        if not (self._rows or pieces):
            return
        self._careful = max(self._careful - 1, 0)
        try:
            logits = self._compute(pieces)
        except Exception as error:
            if not pieces:
                raise
            if len(pieces) == 1:
                self._reading.remove(pieces[0].row)
                self._fail([pieces[0].row], error)
            # One of several prompts may be the reason: the next ones come one by one.
            self._careful = len(pieces)
            return
        self._choose(logits, [piece for piece in pieces if piece.is_last])

    def _compute(self, pieces: Sequence[_Piece]) -> torch.Tensor:
        """Compute a pass; return the logits of each row and, after them, of each prompt that is complete."""
        rows = self._rows
        ids, positions = [row.next_token for row in rows], [self._pool.begin()]
        kept, head = list(range(len(rows))), [row.adapter for row in rows]
        spans = [(row.adapter, 1) for row in rows]
        for piece in pieces:
            ids.extend(piece.ids)
            positions.append(torch.arange(piece.start, piece.start + len(piece.ids)))
            spans.append((piece.row.adapter, len(piece.ids)))
            if piece.is_last:
                kept.append(len(ids) - 1)
                head.append(piece.row.adapter)
        # Output layers want a row, also where nobody asks for one.
        self._route.direct(self._shelf.registry, spans, head or [None])
        logits = self._model(
            input_ids=torch.tensor([ids]),
            position_ids=torch.cat(positions)[None],
            use_cache=False,
            logits_to_keep=torch.tensor(kept or [0]),
            attending=Together(self._pool, [(piece.prompt, len(piece.ids)) for piece in pieces]),
        ).logits[0]
        self._pool.end()
        self._counts["steps"] += 1
        for piece in pieces:
            piece.prompt.done = piece.start + len(piece.ids)
        return logits[: len(kept)]

    def _choose(self, logits: torch.Tensor, read: Sequence[_Piece]) -> None:
        """Let each row choose its next token, and those whose prompts are complete their first one."""
        self._counts["answer"] += len(logits)
        best, likely = (values.tolist() for values in logits.max(dim=-1)) if len(logits) else ([], [])
        first = len(self._rows)
        for place in reversed(range(first)):
            row = self._rows[place]
            if self._is_over(row, logits[place], best[place], likely[place]):
                # Hidden numbers count nothing only where they are finite.
                self._pool.wipe(place)
                self._gone(self._leave(place))
        for place, piece in enumerate(read, start=first):
            row, kv, ids = piece.row, piece.prompt.kv, piece.row.ids
            self._reading.remove(row)
            row.prompt = None
            if not row.said:
                self._counts["prompt"] += len(ids)
                self._counts["cached"] += row.cached
            if math.isfinite(best[place]):
                self._prefixes.keep(self._whose(row), ids, kv)
            if self._is_over(row, logits[place], best[place], likely[place]):
                self._gone(row)
            else:
                self._pool.join(kv)
                self._rows.append(row)

    def _is_over(self, row: Row, logits_V: torch.Tensor, best: float, likely: int) -> bool:
        """Let a row choose its token, and say whether its answer has ended."""
        try:
            _check_finite(best)
            if row.chooser.is_plain:
                return row.take(likely, logits_V, self._grammars, self.stop_ids) is not None
            return row.next(logits_V.float(), self._grammars, self.stop_ids) is not None
        except Exception as error:  # noqa: BLE001 (a row's trouble is nobody else's)
            row.tell(_told(error))
            return True

    def _leave(self, place: int) -> Row:
        """Take a row out; the last one takes its place, in the pool and here."""
        row = self._rows[place]
        self._pool.leave(place)
        self._rows[place] = self._rows[-1]
        self._rows.pop()
        return row

    def _drop(self, row: Row) -> None:
        self._gone(row)
        row.tell(Piece("", finish="cancelled"))

    def _gone(self, row: Row) -> None:
        row.prompt = None
        if row.adapter is not None:
            self._shelf.let_go(row.adapter)
        with self._state:
            self._in_line -= 1
            self._counts["ended"] += 1

    def _fail(self, rows: Sequence[Row], error: Exception) -> None:
        """Tell rows that their computation failed, and let them go."""
        told = _told(error)
        for row in rows:
            self._gone(row)
            row.tell(told)

    @contextlib.contextmanager
    def _holding(self, adapter: Path | None) -> Iterator[None]:
        """Keep an adapter in memory meanwhile."""
        if adapter is None:
            yield
            return
        ready: Future[LuthierError | None] = Future()
        with self._state:
            self._check_open()
            self._shelf.hold(adapter, ready.set_result)
        try:
            error = ready.result()
            if error:
                raise error
            yield
        finally:
            self._shelf.let_go(adapter)

    def _embedded(self, ids: Sequence[int], adapter: Path | None) -> list[float]:
        """Return a vector, computed piece by piece, so that answers under way go on between."""
        made = _Embedding(ids, adapter)
        while made.vector is None:
            self._on_thread(lambda: self._embed_piece(made))
        return made.vector

    def _embed_piece(self, made: "_Embedding") -> None:
        made.prompt = made.prompt or Prompt(self._shape.empty(len(made.ids)))
        piece = made.ids[made.prompt.done : made.prompt.done + self._spec.prefill_tokens]
        self._route.direct(self._shelf.registry, [(made.adapter, len(piece))])
        states = self._model.base_model(
            input_ids=torch.tensor([list(piece)]),
            position_ids=torch.arange(made.prompt.done, made.prompt.done + len(piece))[None],
            use_cache=False,
            attending=made.prompt,
        ).last_hidden_state[0]
        made.prompt.done += len(piece)
        made.sum_D = made.sum_D + states.float().sum(dim=0)
        if made.prompt.done == len(made.ids):
            made.vector = torch.nn.functional.normalize(made.sum_D, dim=0).tolist()

    def _on_thread(self, work: Callable[[], Result]) -> Result:
        done: Future[Result] = Future()

        def order() -> None:
            try:
                done.set_result(work())
            except Exception as error:  # noqa: BLE001 (raised again where it was asked for)
                done.set_exception(error)

        with self._state:
            self._check_open()
            self._orders.put(order)
        return done.result()

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the engine is closed")

    def _full(self) -> QueueFullError:
        error = QueueFullError(f"{self._in_line} requests are under way or waiting")
        if self._counts["ended"]:
            error.retry_after_s = min(max(1, round(self._busy_s / self._counts["ended"])), LONGEST_WAIT_S)
        return error


def _load(base_folder: Path) -> _Loaded:
    model = load_model(base_folder).cpu().requires_grad_(False)
    if model.config.model_type not in FAMILIES:
        hint = f"served are {', '.join(FAMILIES)}"
        raise ModelError("this kind of model is not served yet", where={"model": base_folder}, hint=hint)
    route, sizes = route_linears(model)
    model.set_attn_implementation(NAME)
    return model, route, Pool(Shape.of(model)), sizes


def _same_positions(config: PreTrainedConfig) -> float:
    """Return up to which length positions are encoded alike: longrope changes all of a batch's by its longest row."""
    rope = getattr(config, "rope_parameters", None) or {}
    return rope["original_max_position_embeddings"] if rope.get("rope_type") == "longrope" else math.inf


def _told(error: Exception) -> LuthierError:
    """Return what is said about a failure."""
    if isinstance(error, LuthierError):
        return error
    LOG.error("a step failed: %s", type(error).__name__)
    # On CPUs, torch says so in words only.
    is_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
    return EngineError("out of memory" if is_memory else "the engine had an error", why=type(error).__name__)


def _check_finite(best: float) -> None:
    if not math.isfinite(best):
        raise ModelError("the model's numbers are not finite", hint="take another adapter, or another base model")
