"""Talk to a tuned model as it was trained: same template, same instruction, same number of turns."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from luthier.core.errors import DataError
from luthier.core.events import Emit
from luthier.core.runfolder import RunFolder
from luthier.examples.example import Example, Message, Segment
from luthier.jobs.pipeline import trained_of
from luthier.jobs.prepare import saved_plan

if TYPE_CHECKING:
    import torch

    from luthier.model.template import Template

LOOKED_AT = 64
"""Training rows from which the manner of speaking is read."""
LONGEST_ANSWER = 512
PARAGRAPH = "\n\n"


@dataclass(frozen=True)
class Manner:
    """How the training rows speak, so that a typed message reaches the model as a trained one did."""

    system: str = ""
    """The system message that all rows share."""
    instruction: str = ""
    """What all rows put before the text, up to its last blank line; in bare text, what the template puts there."""
    closing: str = ""
    """What the template of bare text puts after the text, where the answer begins."""
    many_turns: bool = False
    """Whether any row has more than one question; else each message stands alone."""
    raw: bool = False
    """Rows are bare text: a message is continued, not answered."""


def manner_of(examples: list[Example], text_template: str | None = None) -> Manner:
    """Read the manner from training rows, and from the template of rows that are bare text."""
    if any(example.segments for example in examples):
        before, after = _around(text_template) if text_template else ("", "")
        return Manner(instruction=before, closing=after, raw=True)
    questions = [[m.content for m in example.messages if m.role == "user"] for example in examples]
    systems = {next((m.content for m in example.messages if m.role == "system"), "") for example in examples}
    many = any(len(asked) > 1 for asked in questions)
    shared = os.path.commonprefix([asked[0] for asked in questions if asked]) if len(examples) > 1 else ""
    end = shared.rfind(PARAGRAPH)
    instruction = "" if many or end < 0 else shared[: end + len(PARAGRAPH)]
    return Manner(systems.pop() if len(systems) == 1 else "", instruction, many_turns=many)


def _around(text_template: str) -> tuple[str, str]:
    """Return what stands before and after the one field that is not learned; nothing where there are several."""
    from luthier.data.formats.templated import pieces_of

    pieces = pieces_of(text_template)
    fields = [place for place, (_, is_field) in enumerate(pieces) if is_field]
    if len(fields) != 2:
        return "", ""
    texts = [text for text, _ in pieces]
    return "".join(texts[: fields[0]]), "".join(texts[fields[0] + 1 : fields[1]])


@dataclass
class Chat:
    """One conversation with one model."""

    model: "torch.nn.Module"
    template: "Template"
    manner: Manner
    turns: list[Message] = field(default_factory=list)

    def answer(self, text: str) -> Iterator[str]:
        """Yield the answer piece by piece; the conversation remembers it where the training rows had many turns."""
        from luthier.model.generate import stream

        ids = self._ids(text)
        room = self.template.tokenizer.model_max_length - len(ids)
        if room < 1:
            why = f"it has {len(ids):,} tokens, the model's context holds {self.template.tokenizer.model_max_length:,}"
            hint = "forget the conversation with `/new`" if self.turns else "write less"
            raise DataError("this message is too long", why=why, hint=hint)
        said = []
        for piece in stream(self.model, self.template, ids, max_new_tokens=min(LONGEST_ANSWER, room)):
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

    from luthier.examples.store import Split
    from luthier.model.adapter import load_tuned, merge
    from luthier.model.base import resolve_base
    from luthier.model.load import load_model, load_tokenizer
    from luthier.model.quick import quicken
    from luthier.model.template import Template

    base = resolve_base(plan.base_model, emit)
    trained = trained_of(folder, base)
    rows = Split(trained.prepared.split("train"))
    examples = [rows.example(index) for index in range(min(LOOKED_AT, len(rows)))]
    manner = manner_of(examples, plan.data.text_template)
    model = load_model(base.folder) if base_only else merge(load_tuned(base.folder, trained.weights))
    return Chat(quicken(model), Template(load_tokenizer(base.folder)), manner)
