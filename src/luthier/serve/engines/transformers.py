"""The default engine: a transformers model, many adapters beside it, and one thread that computes.

New requests join between steps, and rows of different adapters share a step. Nothing of torch's runs elsewhere: PEFT's
switching of adapters is not thread-safe, and one thread with a mixed batch is exact.
"""

import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedConfig

from luthier.core.errors import LuthierError, ModelError
from luthier.model.device import physical_cores
from luthier.model.load import context_length, load_model, load_tokenizer
from luthier.model.template import Template
from luthier.serve.constrain import Grammars
from luthier.serve.lora import route_linears
from luthier.serve.pool import FAMILIES, NAME, Pool, Prompt, Shape
from luthier.serve.prefix import Prefixes, Whose
from luthier.serve.request import Ask, EngineStats, Heard, Piece, QueueFullError
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


class EngineError(LuthierError):
    """The engine could not compute a step."""

    code = "engine_failed"
    usual_hint = "ask again; if it happens again, please report it"


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
        self._model = load_model(base_folder).cpu().requires_grad_(False)
        if self._model.config.model_type not in FAMILIES:
            hint = f"served are {', '.join(FAMILIES)}"
            raise ModelError("this kind of model is not served yet", where={"model": base_folder}, hint=hint)
        self._route, sizes = route_linears(self._model)
        self._model.set_attn_implementation(NAME)
        self._spec, self.context = spec, min(context_length(base_folder), _same_positions(self._model.config))
        template = Template(load_tokenizer(base_folder))
        self._tokenizer, self.stop_ids = template.tokenizer, template.stop_ids
        self._shape = Shape.of(self._model)
        self._grammars = Grammars(self._tokenizer, self._model.get_output_embeddings().size[1])
        self._pool, self._prefixes = Pool(self._shape), Prefixes(spec.prefix_bytes)
        self._shelf = Shelf(sizes, spec.adapter_bytes)
        self._rows: list[Row] = []
        self._reading: deque[Row] = deque()
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._state = threading.Lock()
        self._in_line = 0
        self._closed = False
        self._counts = dict.fromkeys(("prompt", "cached", "answer", "steps", "ended"), 0)
        self._busy_s = 0.0
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()
        # It takes a second, which answers under way should not wait for.
        threading.Thread(target=lambda: self._grammars.own, name="grammars", daemon=True).start()

    def submit(self, ask: Ask, heard: Heard) -> Row:
        """Put a request in line and return at once; raise QueueFullError where the line is full."""
        limit = min(ask.sampling.max_tokens, self.context - len(ask.ids))
        if not ask.ids or limit < 1:
            raise ValueError("a prompt has at least one token and fewer than the context holds")
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
        if adapter is not None:
            ready: Future[LuthierError | None] = Future()
            with self._state:
                self._check_open()
                self._shelf.hold(adapter, ready.set_result)
            error = ready.result()
            if error:
                self._shelf.let_go(adapter)
                raise error
        try:
            return [self._embedded(ids, adapter) for ids in prompts]
        finally:
            if adapter is not None:
                self._shelf.let_go(adapter)

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

    def _run(self) -> None:
        torch.set_num_threads(self._spec.threads or physical_cores())
        with torch.inference_mode():
            while self._take_orders():
                started = time.perf_counter()
                try:
                    self._read()
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

    def _read(self) -> None:
        """Compute the next prompts, up to the spec's tokens, as far as there are free rows."""
        for row in [row for row in self._reading if row.cancelled]:
            self._reading.remove(row)
            self._drop(row)
        budget = self._spec.prefill_tokens
        while budget > 0 and self._reading and self._has_room(row := self._reading[0]):
            try:
                budget -= self._read_piece(row, budget)
            except Exception as error:  # noqa: BLE001 (a prompt's trouble is nobody else's)
                self._fail([row], error)
            if row.prompt is None:
                self._reading.popleft()

    def _has_room(self, row: Row) -> bool:
        """Say whether a row fits beside those under way, with room for some tokens; alone it always does."""
        tokens = len(row.ids) + AHEAD_TOKENS
        fits = len(self._rows) < self._spec.rows and self._pool.bytes_with(tokens, 1) <= self._spec.answer_bytes
        return fits or not self._rows

    def _make_room(self) -> None:
        """Put rows that no longer fit back in line, the last to come first; they go on where they were."""
        while len(self._rows) > 1 and self._pool.bytes_with() > self._spec.answer_bytes:
            place = max(range(len(self._rows)), key=lambda place: self._rows[place].asked_at)
            self._reading.appendleft(self._leave(place))

    def _read_piece(self, row: Row, budget: int) -> int:
        """Compute a piece of a prompt; after the last one the row answers, or is over. Returns the tokens computed."""
        ids = row.ids
        if row.prompt is None:
            self._begin(row, ids)
        prompt = row.prompt
        piece = ids[prompt.done : prompt.done + budget]
        self._route.direct(self._shelf.registry, [row.adapter])
        positions = torch.arange(prompt.done, prompt.done + len(piece))[None]
        logits = self._model(
            input_ids=torch.tensor([piece]),
            position_ids=positions,
            use_cache=False,
            logits_to_keep=1,
            attending=prompt,
        ).logits[0, -1]
        prompt.done += len(piece)
        if prompt.done == len(ids):
            _check_finite(float(logits.max()))
            self._prefixes.keep(self._whose(row), ids, prompt.kv)
            if not row.said:
                self._counts["prompt"] += len(ids)
                self._counts["cached"] += row.cached
            if row.next(logits.float(), self._grammars, self.stop_ids) is None:
                self._pool.join(prompt.kv)
                self._rows.append(row)
            else:
                self._gone(row)
            self._counts["answer"] += 1
            row.prompt = None
        return len(piece)

    def _whose(self, row: Row) -> Whose:
        return row.ask.owner, row.adapter, self._shelf.registry.loads[row.adapter] if row.adapter else 0

    def _begin(self, row: Row, ids: Sequence[int]) -> None:
        row.cached, known = self._prefixes.find(self._whose(row), ids)
        row.prompt = Prompt(self._shape.empty(len(ids)), row.cached)
        if known is not None:
            row.prompt.kv[..., : row.cached, :] = known
        if row.ask.sampling.grammar and row.follower is None:
            row.follower = self._grammars.follow(row.ask.sampling.grammar)

    def _step(self) -> None:
        """Compute one token of each row."""
        for place in reversed(range(len(self._rows))):
            if self._rows[place].cancelled:
                self._drop(self._leave(place))
        if not self._rows:
            return
        self._make_room()
        self._route.direct(self._shelf.registry, [row.adapter for row in self._rows])
        logits = self._model(
            input_ids=torch.tensor([[row.next_token] for row in self._rows]),
            position_ids=self._pool.begin(),
            use_cache=False,
            logits_to_keep=1,
            attending=self._pool,
        ).logits[:, -1]
        self._pool.end()
        self._counts["steps"] += 1
        self._counts["answer"] += len(self._rows)
        best, likely = (values.tolist() for values in logits.max(dim=-1))
        for place in reversed(range(len(self._rows))):
            if self._is_over(place, logits[place], best[place], likely[place]):
                self._gone(self._leave(place))

    def _is_over(self, place: int, logits_V: torch.Tensor, best: float, likely: int) -> bool:
        """Let a row choose its token, and say whether its answer has ended."""
        row = self._rows[place]
        try:
            _check_finite(best)
            if row.chooser.is_plain:
                return row.take(likely, logits_V, self._grammars, self.stop_ids) is not None
            return row.next(logits_V.float(), self._grammars, self.stop_ids) is not None
        except Exception as error:  # noqa: BLE001 (a row's trouble is nobody else's)
            self._pool.wipe(place)
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

    def _embedded(self, ids: Sequence[int], adapter: Path | None) -> list[float]:
        """Return a vector, computed piece by piece, so that answers under way go on between."""
        made = _Embedding(ids, adapter)
        while made.vector is None:
            self._on_thread(lambda: self._embed_piece(made))
        return made.vector

    def _embed_piece(self, made: "_Embedding") -> None:
        made.prompt = made.prompt or Prompt(self._shape.empty(len(made.ids)))
        piece = made.ids[made.prompt.done : made.prompt.done + self._spec.prefill_tokens]
        self._route.direct(self._shelf.registry, [made.adapter])
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

    def _on_thread(self, work: Callable[[], None]) -> None:
        done: Future[None] = Future()

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
