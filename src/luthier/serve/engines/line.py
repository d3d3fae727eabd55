"""A line before a server that does the computing: who runs, who waits, who is told what."""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from luthier.core.errors import LuthierError
from luthier.serve.request import Ask, EngineError, EngineStats, Heard, Piece, QueueFullError

LOG = logging.getLogger(__name__)
LONGEST_WAIT_S = 60


@dataclass(eq=False)
class Turn:
    """One request: waiting, or under way."""

    ask: Ask
    heard: Heard
    limit: int
    """Tokens of the answer at most."""
    cancelled: bool = False
    hang_up: Callable[[], None] | None = None
    """Ends the connection from another thread; set while there is one."""
    _told: int = field(default=0, repr=False)

    @property
    def tokens(self) -> int:
        """Tokens of prompt and answer together at most."""
        return len(self.ask.ids) + self.limit

    def cancel(self) -> None:
        """Nobody listens any more."""
        self.cancelled = True
        hang_up = self.hang_up
        if hang_up is not None:
            hang_up()

    def tell(self, said: Piece | LuthierError) -> None:
        """Say something; whoever cannot hear it is not told again."""
        try:
            self.heard(said)
        except Exception:  # noqa: BLE001 (a listener's trouble must not end the engine's thread)
            self.cancelled = True


Answer = Callable[[Turn], Iterator[Piece]]
"""Asks the server, and yields what it says; the last piece has a finish. It ends early where the turn is cancelled."""


class Line:
    """Runs requests in their order, as many at once as there are rows and as their tokens fit together."""

    def __init__(self, answer: Answer, *, rows: int, queue: int, tokens: float) -> None:
        self._answer, self._rows, self._most, self._tokens = answer, rows, rows + queue, tokens
        self._pool = ThreadPoolExecutor(rows, thread_name_prefix="engine")
        self._changed = threading.Condition()
        self._turns: set[Turn] = set()
        self._numbers, self._next = itertools.count(), 0
        self._running = self._held = 0
        self._closed = False
        self._counts = dict.fromkeys(("prompt", "cached", "answer", "steps", "ended"), 0)
        self._busy_s = 0.0

    def join(self, turn: Turn) -> Turn:
        """Put a request in line and return at once; raise QueueFullError where the line is full."""
        with self._changed:
            self.check_open()
            if len(self._turns) >= self._most:
                raise self._full()
            self._turns.add(turn)
            self._pool.submit(self._run, turn, next(self._numbers))
        return turn

    def check_open(self) -> None:
        """Raise EngineError after the end."""
        if self._closed:
            raise EngineError("the engine is closed")

    def stats(self) -> EngineStats:
        """Return the present state; a server's steps are its answers' tokens."""
        return EngineStats(
            running=self._running,
            waiting=max(len(self._turns) - self._running, 0),
            prompt_tokens=self._counts["prompt"],
            cached_prompt_tokens=self._counts["cached"],
            answer_tokens=self._counts["answer"],
            adapters=0,
            adapter_bytes=0,
            steps=self._counts["steps"],
        )

    def close(self) -> None:
        """End all that is under way, and tell those whose answers it cuts."""
        with self._changed:
            self._closed = True
            turns = list(self._turns)
            self._changed.notify_all()
        for turn in turns:
            turn.cancel()
        self._pool.shutdown()

    def _run(self, turn: Turn, number: int) -> None:
        started = time.perf_counter()
        with self._changed:
            fits = lambda: self._next == number and (not self._held or self._held + turn.tokens <= self._tokens)  # noqa: E731
            self._changed.wait_for(fits)
            self._next += 1
            self._held += turn.tokens
            self._running += 1
            self._changed.notify_all()
        last: Piece | LuthierError
        try:
            last = self._through(turn)
        except LuthierError as error:
            last = error
        except Exception as error:  # noqa: BLE001 (one answer's trouble must not end the engine)
            LOG.error("an answer failed: %s", type(error).__name__)
            last = EngineError("the engine had an error", why=type(error).__name__)
        with self._changed:
            self._held -= turn.tokens
            self._running -= 1
            self._turns.discard(turn)
            self._counts["ended"] += 1
            self._busy_s += time.perf_counter() - started
            self._changed.notify_all()
        turn.tell(self._at_the_end(turn, last))

    def _through(self, turn: Turn) -> Piece | LuthierError:
        """Say all but the last piece, and return that."""
        if turn.cancelled:
            return Piece("", finish="cancelled")
        for piece in self._answer(turn):
            self._count(turn, piece)
            if piece.finish:
                return piece
            turn.tell(piece)
            if turn.cancelled:
                break
        return Piece("", finish="cancelled") if turn.cancelled else EngineError("the server's answer has no end")

    def _at_the_end(self, turn: Turn, last: Piece | LuthierError) -> Piece | LuthierError:
        if self._closed and (isinstance(last, LuthierError) or last.finish == "cancelled"):
            return EngineError("the engine is closed")
        # A connection that was ended from this side fails in many ways.
        return Piece("", finish="cancelled") if turn.cancelled and isinstance(last, LuthierError) else last

    def _count(self, turn: Turn, piece: Piece) -> None:
        with self._changed:
            if not turn._told:
                self._counts["prompt"] += len(turn.ask.ids)
                self._counts["cached"] += piece.cached_tokens
            turn._told += piece.new_tokens
            self._counts["answer"] += piece.new_tokens
            self._counts["steps"] += piece.new_tokens

    def _full(self) -> QueueFullError:
        error = QueueFullError(f"{len(self._turns)} requests are under way or waiting")
        if self._counts["ended"]:
            per_answer = self._busy_s / self._counts["ended"] / self._rows
            error.retry_after_s = min(max(1, round(per_answer)), LONGEST_WAIT_S)
        return error
