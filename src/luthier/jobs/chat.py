"""Talk to a tuned model as it was trained: same template, same instruction, same number of turns."""

import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.core.errors import DataError, LuthierError
from luthier.core.events import Emit
from luthier.core.runfolder import RunFolder
from luthier.examples.example import Example, Message, Segment
from luthier.export.manifest import Manner
from luthier.jobs.manner import LOOKED_AT, manner_of
from luthier.jobs.pipeline import trained_of
from luthier.jobs.predict import refuse_head
from luthier.jobs.prepare import saved_plan
from luthier.serve.request import Ask, Engine, Piece, Sampling

if TYPE_CHECKING:
    from luthier.model.template import Template

Speak = Callable[[list[int], int], Iterator[str]]
"""Yields the greedy answer to a prompt, of so many tokens at most, piece by piece."""
LONGEST_ANSWER = 512


@dataclass
class Chat:
    """One conversation with one model."""

    speak: Speak
    template: "Template"
    manner: Manner
    turns: list[Message] = field(default_factory=list)

    def answer(self, text: str) -> Iterator[str]:
        """Yield the answer piece by piece; the conversation remembers it where the training rows had many turns."""
        ids = self._ids(text)
        room = self.template.tokenizer.model_max_length - len(ids)
        if room < 1:
            why = f"it has {len(ids):,} tokens, the model's context holds {self.template.tokenizer.model_max_length:,}"
            hint = "forget the conversation with `/new`" if self.turns else "write less"
            raise DataError("this message is too long", why=why, hint=hint)
        said = []
        for piece in self.speak(ids, min(LONGEST_ANSWER, room)):
            said.append(piece)
            yield piece
        if self.manner.many_turns:
            self.turns += [Message(role="user", content=text), Message(role="assistant", content="".join(said))]

    def forget(self) -> None:
        """Start the conversation anew."""
        self.turns.clear()

    def _ids(self, text: str) -> list[int]:
        if self.manner.raw:
            whole = self.manner.instruction + text + self.manner.closing
            return self.template.prompt_ids(Example(segments=(Segment(text=whole, target=False),)))
        system = [Message(role="system", content=self.manner.system)] if self.manner.system else []
        question = Message(role="user", content=self.manner.instruction + text)
        return self.template.messages_ids([*system, *self.turns, question])


def open_chat(folder: RunFolder, *, base_only: bool, emit: Emit) -> Chat:
    """Load the tuned model of a run, or its untuned base, for a conversation."""
    plan = saved_plan(folder)
    refuse_head(plan, "chat", where=folder.path)

    from luthier.examples.store import Split
    from luthier.model.adapter import load_tuned, ready
    from luthier.model.base import resolve_base
    from luthier.model.generate import stream
    from luthier.model.load import load_model, load_tokenizer
    from luthier.model.quick import quicken
    from luthier.model.template import Template

    base = resolve_base(plan.base_model, emit)
    trained = trained_of(folder, base)
    rows = Split(trained.prepared.split("train"))
    examples = [rows.example(index) for index in range(min(LOOKED_AT, len(rows)))]
    manner = manner_of(examples, plan.data.text_template)
    model = quicken(load_model(base.folder) if base_only else ready(load_tuned(base.folder, trained.weights)))
    template = Template(load_tokenizer(base.folder))
    return Chat(lambda ids, tokens: stream(model, template, ids, max_new_tokens=tokens), template, manner)


def open_chat_with_export(folder: Path, *, adapter: str | None, emit: Emit) -> Chat:
    """Load an export in its own engine for a conversation; with `adapter`, one of those it can switch to."""
    from luthier.jobs.export.opened import open_export

    opened = open_export(folder, emit=emit)
    path = opened.adapter(adapter)
    return Chat(
        lambda ids, tokens: spoken_by(opened.engine, ids, tokens, path), opened.template, opened.manifest.manner
    )


def spoken_by(engine: Engine, ids: list[int], tokens: int, adapter: Path | None) -> Iterator[str]:
    """Yield an engine's greedy answer piece by piece; whoever stops listening stops it."""
    heard: queue.SimpleQueue[Piece | LuthierError] = queue.SimpleQueue()
    ticket = engine.submit(Ask(tuple(ids), Sampling(tokens, temperature=0), adapter), heard.put)
    try:
        while True:
            said = heard.get()
            if isinstance(said, LuthierError):
                raise said
            if said.text:
                yield said.text
            if said.finish:
                return
    finally:
        ticket.cancel()
