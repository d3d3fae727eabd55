"""Ask an engine many prompts and wait for all its answers."""

import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.core.errors import LuthierError
from luthier.serve.request import Ask, Engine, EngineError, Heard, Piece, QueueFullError, Sampling

if TYPE_CHECKING:
    from luthier.model.generate import Answer
    from luthier.model.template import Template

SILENCE_S = 600.0
"""An engine that says nothing for so long is taken to hang."""
AGAIN_S = 0.05


@dataclass
class _Listener:
    """One answer while it is spoken."""

    ended: "queue.SimpleQueue[int]"
    place: int
    ids: list[int] = field(default_factory=list)
    stopped: bool = False
    error: LuthierError | None = None

    def __call__(self, said: Piece | LuthierError) -> None:
        if isinstance(said, LuthierError):
            self.error = said
            self.ended.put(self.place)
            return
        self.ids += [spoken.chosen.id for spoken in said.tokens]
        if said.finish:
            self.stopped = said.finish == "stop"
            self.ended.put(self.place)


def ask_all(
    engine: Engine,
    template: "Template",
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    adapter: Path | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> "list[Answer]":
    """Return the greedy answers to prompts, in their order; raise the first error that an answer met."""
    from luthier.model.generate import Answer

    ended: queue.SimpleQueue[int] = queue.SimpleQueue()
    listeners = [_Listener(ended, place) for place in range(len(prompts))]
    open_ = 0
    for listener, prompt in zip(listeners, prompts, strict=True):
        limit = int(min(max_new_tokens, engine.context - len(prompt)))
        if limit < 1:
            continue
        # Token ids are told with the chances only.
        ask = Ask(tuple(prompt), Sampling(limit, temperature=0, logprobs=0), adapter)
        open_ += 1
        while not _in_line(engine, ask, listener):
            time.sleep(AGAIN_S)
    for _ in range(open_):
        try:
            place = ended.get(timeout=SILENCE_S)
        except queue.Empty as error:
            raise EngineError("the engine does not answer", why=f"it was silent for {SILENCE_S:g} s") from error
        if listeners[place].error:
            raise listeners[place].error
        progress(1)
    return [Answer(one.ids, template.text(one.ids), one.stopped) for one in listeners]


def _in_line(engine: Engine, ask: Ask, heard: Heard) -> bool:
    try:
        engine.submit(ask, heard)
    except QueueFullError:
        return False
    return True
