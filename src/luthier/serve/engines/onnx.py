"""The engine for ONNX Runtime GenAI's folders: one thread computes, answers take turns token by token.

Tokens are chosen here, as in the default engine: seeds, penalties, grammars and stop texts mean the same in both. What
the folder says of itself is taken from its own files by the runtime's own tokenizer and settings, so that a wrong
template or a lost end shows.
"""

import itertools
import json
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnxruntime_genai as genai
import torch

from luthier.core.errors import LuthierError, ModelError
from luthier.core.waiting import waits_asleep
from luthier.model.checks import read_json
from luthier.model.device import physical_cores
from luthier.model.load import load_tokenizer
from luthier.serve.constrain import Grammars
from luthier.serve.request import Ask, EngineError, EngineStats, Heard, Piece, QueueFullError, answer_limit
from luthier.serve.rows import Row
from luthier.serve.sampling import Chooser
from luthier.serve.spec import ServeSpec
from luthier.serve.text import Speaker

SETTINGS = "genai_config.json"
Order = Callable[[], None]
Result = TypeVar("Result")
Chances = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(eq=False)
class _Answer:
    """An answer under way: its row, and the runtime's own state of it."""

    row: Row
    generator: Any


class OnnxEngine:
    """An engine over one ONNX model with adapters beside it; see `serve.request.Engine`.

    `Ask.adapter` is the path of an `.onnx_adapter` file.
    """

    def __init__(self, folder: Path, spec: ServeSpec) -> None:
        """Load the model; raise ModelError where it cannot be run here."""
        self._spec = spec
        self._settings = read_json(folder / SETTINGS)
        told = self._settings.get("model", {})
        ends = told.get("eos_token_id", [])
        self.stop_ids = frozenset(ends if isinstance(ends, list) else [ends])
        self.context = int(told.get("context_length", 0))
        self._hf = load_tokenizer(folder)
        self._model, self._tokenizer, self._adapters = self._load(folder)
        self._known: dict[Path, str] = {}
        """Adapters in memory, by what the runtime calls them."""
        self._unwanted: set[Path] = set()
        self._numbers = itertools.count()
        self._grammars = Grammars(self._hf, int(told.get("vocab_size", len(self._hf))))
        self._waiting: deque[Row] = deque()
        self._running: list[_Answer] = []
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._state = threading.Lock()
        self._in_line = 0
        self._closed = False
        self._counts = dict.fromkeys(("prompt", "answer", "steps"), 0)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def _load(self, folder: Path) -> tuple[Any, Any, Any]:
        session: dict[str, Any] = {"intra_op_num_threads": self._spec.threads or physical_cores()}
        if waits_asleep():
            # The runtime's threads spin as OpenMP's do; see there.
            session["session.intra_op.allow_spinning"] = "0"
        options = {"model": {"decoder": {"session_options": session}}}
        try:
            config = genai.Config(str(folder))
            config.overlay(json.dumps(options))
            model = genai.Model(config)
            return model, genai.Tokenizer(model), genai.Adapters(model)
        except Exception as error:  # the runtime raises no type of its own
            why = _first_line(error)
            raise ModelError("ONNX Runtime cannot load this model", where={"folder": folder}, why=why) from error

    def submit(self, ask: Ask, heard: Heard) -> Row:
        """Put a request in line and return at once; raise QueueFullError where the line is full."""
        limit = answer_limit(ask, self.context)
        row = Row(ask, heard, limit, Speaker(self._hf, ask.sampling.stop), Chooser(ask.sampling))
        with self._state:
            self._check_open()
            if self._in_line >= self._spec.queue + self._spec.rows:
                raise QueueFullError(f"{self._in_line} requests are under way or waiting")
            self._in_line += 1
            self._orders.put(lambda: self._waiting.append(row))
        return row

    def embed(self, prompts: Sequence[Sequence[int]], adapter: Path | None = None) -> list[list[float]]:
        """Refuse: these models give no hidden states."""
        hint = "serve the merged form for embeddings"
        raise EngineError("an ONNX model gives no embeddings", why="it has no hidden states to give", hint=hint)

    def render(self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] = ()) -> str:
        """Return a conversation as text, by the runtime's own copy of the template."""
        given = {"tools": json.dumps(list(tools))} if tools else {}
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    messages=json.dumps(list(messages), ensure_ascii=False), add_generation_prompt=True, **given
                )
            )
        except Exception as error:  # the runtime raises no type of its own
            raise EngineError("ONNX Runtime cannot apply the chat template", why=_first_line(error)) from error

    def encode(self, rendered: str) -> list[int]:
        """Return a rendered prompt's ids, by the runtime's own tokenizer."""
        return [int(token) for token in self._tokenizer.encode(rendered)]

    def chances(self, prompt: Sequence[int], answer: Sequence[int], adapter: Path | None = None) -> Chances:
        """Return log-probabilities along a given answer; see `serve.request.Engine`."""
        return self._on_thread(lambda: self._chances(prompt, answer, adapter))

    def unload(self, adapter: Path) -> None:
        """Forget an adapter; requests under way with it end first."""
        self._orders.put(lambda: self._unwanted.add(adapter))

    def stats(self) -> EngineStats:
        """Return the present state."""
        running, known = len(self._running), list(self._known)
        return EngineStats(
            running=running,
            waiting=max(self._in_line - running, 0),
            prompt_tokens=self._counts["prompt"],
            cached_prompt_tokens=0,
            answer_tokens=self._counts["answer"],
            adapters=len(known),
            adapter_bytes=sum(path.stat().st_size for path in known if path.exists()),
            steps=self._counts["steps"],
        )

    def close(self) -> None:
        """End the thread; requests under way are told."""
        with self._state:
            self._closed = True
        self._orders.put(None)
        self._thread.join()

    def _run(self) -> None:
        # Small sums only: the runtime has threads of its own.
        torch.set_num_threads(1)
        with torch.inference_mode():
            while self._take_orders():
                self._step()
        for row in [*(answer.row for answer in self._running), *self._waiting]:
            row.tell(EngineError("the engine is closed"))

    def _take_orders(self) -> bool:
        """Do what was asked for meanwhile; wait where there is nothing else to do. False: the end."""
        while not self._orders.empty() or not (self._running or self._waiting):
            order = self._orders.get()
            if order is None:
                self._drain()
                return False
            order()
            self._let_go()
        return True

    def _drain(self) -> None:
        """Do what was asked for before the end, so that nobody waits for it."""
        while not self._orders.empty():
            order = self._orders.get()
            if order is not None:
                order()

    def _step(self) -> None:
        """Begin answers as far as there is room, and add a token to each."""
        while self._waiting and len(self._running) < self._spec.rows:
            self._begin(self._waiting.popleft())
        for answer in list(self._running):
            self._counts["steps"] += 1
            if self._is_over(answer):
                self._running.remove(answer)
                # It holds its adapter, which cannot go as long as it is there.
                answer.generator = None
                self._gone()
        self._let_go()

    def _begin(self, row: Row) -> None:
        if row.cancelled:
            self._gone()
            row.tell(Piece("", finish="cancelled"))
            return
        try:
            if row.ask.sampling.grammar:
                row.follower = self._grammars.follow(row.ask.sampling.grammar)
            generator = self._generator(len(row.ask.ids) + row.limit, row.ask.adapter)
            generator.append_tokens(np.array([row.ask.ids], dtype=np.int32))
        except Exception as error:  # noqa: BLE001 (a prompt's trouble is nobody else's)
            self._gone()
            row.tell(_told(error))
            return
        self._counts["prompt"] += len(row.ask.ids)
        self._running.append(_Answer(row, generator))

    def _is_over(self, answer: _Answer) -> bool:
        """Let a row choose its token and compute what follows; say whether its answer has ended."""
        row = answer.row
        if row.cancelled:
            row.tell(Piece("", finish="cancelled"))
            return True
        try:
            self._counts["answer"] += 1
            logits = _logits(answer.generator)
            if not bool(logits.max().isfinite()):
                raise ModelError("the model's numbers are not finite", hint="take another adapter, or another form")
            if row.next(logits, self._grammars, self.stop_ids) is not None:
                return True
            answer.generator.append_tokens(np.array([[row.next_token]], dtype=np.int32))
        except Exception as error:  # noqa: BLE001 (a row's trouble is nobody else's)
            row.tell(_told(error))
            return True
        return False

    def _generator(self, tokens: int, adapter: Path | None) -> Any:
        params = genai.GeneratorParams(self._model)
        params.set_search_options(max_length=min(tokens + 1, self.context), do_sample=False)
        generator = genai.Generator(self._model, params)
        if adapter is not None:
            generator.set_active_adapter(self._adapters, self._adapter(adapter))
        return generator

    def _adapter(self, path: Path) -> str:
        """Return the runtime's name of an adapter, loaded when first asked for."""
        self._unwanted.discard(path)
        if path not in self._known:
            if not path.is_file():
                raise ModelError("there is no such adapter", where={"file": path})
            # A number of its own: one given out twice would name an adapter that is still there.
            name = f"{next(self._numbers)}-{path.stem}"
            self._adapters.load(str(path), name)
            self._known[path] = name
        return self._known[path]

    def _let_go(self) -> None:
        """Take the adapters that nobody wants, and no answer uses, out of memory."""
        used = {answer.row.ask.adapter for answer in self._running} | {row.ask.adapter for row in self._waiting}
        for path in [path for path in self._unwanted if path in self._known and path not in used]:
            try:
                self._adapters.unload(self._known[path])
            except RuntimeError:
                # Something still holds it, such as an error that is on its way; it goes the next time.
                continue
            del self._known[path]
            self._unwanted.discard(path)

    def _chances(self, prompt: Sequence[int], answer: Sequence[int], adapter: Path | None) -> Chances:
        generator = self._generator(len(prompt) + len(answer) + 1, adapter)
        generator.append_tokens(np.array([list(prompt)], dtype=np.int32))
        steps = [torch.log_softmax(_logits(generator), dim=-1)]
        for token in answer:
            generator.append_tokens(np.array([[token]], dtype=np.int32))
            steps.append(torch.log_softmax(_logits(generator), dim=-1))
        return torch.stack(steps).numpy()

    def _gone(self) -> None:
        with self._state:
            self._in_line -= 1

    def _on_thread(self, work: Callable[[], Result]) -> Result:
        done: Future[Result] = Future()

        def order() -> None:
            try:
                done.set_result(work())
            except Exception as error:  # noqa: BLE001 (raised again where it was asked for)
                done.set_exception(_told(error))

        with self._state:
            self._check_open()
            self._orders.put(order)
        return done.result()

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the engine is closed")


def _logits(generator: Any) -> torch.Tensor:
    """Return the logits of the next token, (V,)."""
    return torch.from_numpy(np.array(generator.get_logits(), dtype=np.float32).reshape(-1))


def _told(error: Exception) -> LuthierError:
    if isinstance(error, LuthierError):
        return error
    return EngineError("ONNX Runtime had an error", why=_first_line(error))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
