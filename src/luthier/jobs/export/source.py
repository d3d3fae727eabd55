"""What is exported, and the prompts that it and its exports are asked."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.core.artifacts import Base, Trained
from luthier.core.errors import ModelError
from luthier.core.events import Emit
from luthier.evaluate.spec import EvaluateSpec
from luthier.examples.example import Example, Message
from luthier.export.manifest import Manner
from luthier.jobs.manner import LOOKED_AT, manner_of
from luthier.model.adapters.union import KNOWN

if TYPE_CHECKING:
    from luthier.evaluate.exam import Exam
    from luthier.model.template import Template

CONFIG = "adapter_config.json"
SEED = 7
"""Draws the rows that are asked, where there are more than are wanted."""
PROBE_TOKENS = 24
"""Longest answer to a general question, where there are no rows to learn it from."""
FEWEST = 8
"""Prompts that are asked however long the answers are."""
CONTINUED_TOKENS = 16
"""Longest continuation of a text that has no question."""


@dataclass(frozen=True)
class Most:
    """How many prompts a certificate asks at most."""

    rows: int
    tokens: int | None = None
    """Of their answers together, were all as long as the longest; so many that a few prompts are asked in any case."""

    def prompts(self, answer_tokens: int) -> int:
        """Return the number of prompts."""
        if self.tokens is None:
            return self.rows
        return max(min(self.rows, FEWEST), min(self.rows, self.tokens // answer_tokens))


@dataclass(frozen=True)
class Question:
    """A prompt: its tokens and, where a chat template made them, the conversation."""

    ids: list[int]
    example: Example | None = None


@dataclass(frozen=True)
class Asked:
    """The prompts of a certificate."""

    questions: list[Question]
    longest: Question
    max_new_tokens: int
    what: str
    """Which prompts these are, in words."""
    exam: "Exam | None" = None
    """Judges the answers, where the rows have right ones."""


@dataclass(frozen=True)
class Source:
    """A tuned model, or a base model alone, as it is before any export."""

    base: Base
    weights: Path | None
    """Folder of the adapter in PEFT's format, or of the fully tuned model; None is the base itself."""
    adapter: str
    """Name of the adapter spec: `lora`, `full`, …; empty for the base itself."""
    template: "Template"
    asked: Asked
    name: str
    """What people call it: the run's name, or the folder's."""
    weights_sha256: str = ""
    data_sha256: str = ""
    run: str | None = None
    evaluate: EvaluateSpec = field(default_factory=EvaluateSpec)
    manner: Manner = Manner()

    @property
    def is_adapter(self) -> bool:
        """Whether the tuned weights lie beside the base."""
        return self.weights is not None and (self.weights / CONFIG).is_file()

    @property
    def unmergeable(self) -> str:
        """Why the tuned weights cannot be added into the base's; empty where they can."""
        if self.weights is None or not self.is_adapter:
            return ""
        kind = json.loads((self.weights / CONFIG).read_text(encoding="utf-8")).get("peft_type")
        return KNOWN[kind].unmergeable if kind in KNOWN else ""


def source_of_run(
    trained: Trained, spec: EvaluateSpec | None, emit: Emit, *, prompts: Most, text_template: str | None = None
) -> Source:
    """Return a run's tuned model with some of its held-out prompts."""
    from luthier.examples.store import Split
    from luthier.model.load import load_tokenizer
    from luthier.model.template import Template

    prepared, asked_for = trained.prepared, spec or EvaluateSpec()
    template = Template(load_tokenizer(prepared.base.folder))
    train = Split(prepared.split("train"))
    spoken = [train.example(row) for row in range(min(LOOKED_AT, len(train)))]
    return Source(
        base=prepared.base,
        weights=trained.weights,
        adapter=trained.adapter,
        template=template,
        asked=_asked_of_rows(trained, asked_for, template, emit, most=prompts),
        name=trained.folder.parent.name,
        weights_sha256=trained.weights_sha256,
        data_sha256=prepared.data_sha256,
        run=trained.folder.parent.name,
        evaluate=asked_for,
        manner=manner_of(spoken, text_template),
    )


def source_of_folder(base: Base, adapter: Path | None) -> Source:
    """Return a base model, with an adapter in PEFT's format where one is given, to be asked general questions."""
    from luthier.model.load import load_tokenizer
    from luthier.model.template import Template

    if adapter is not None and not (adapter / CONFIG).is_file():
        hint = "name a run, or a folder with adapter_config.json and adapter_model.safetensors"
        raise ModelError("there is no adapter here", where={"folder": adapter}, hint=hint)
    template = Template(load_tokenizer(base.folder))
    kind = "lora" if adapter is not None else ""
    return Source(base, adapter, kind, template, general(template), name=(adapter or Path(base.title)).name)


def general(template: "Template") -> Asked:
    """Return the built-in general questions, for models that come without rows."""
    from luthier.evaluate.alternatives.probes import QUESTIONS, TEXTS

    examples = [Example(messages=(Message(role="user", content=probe.question),)) for probe in QUESTIONS]
    examples.append(Example(messages=(Message(role="user", content=f"Put it shortly: {' '.join(TEXTS)}"),)))
    whole = [Question(template.messages_ids(one.messages), _to_be_answered(one)) for one in examples]
    questions = [question for question in whole if len(question.ids) + PROBE_TOKENS <= _room(template)]
    if not questions:
        why = f"even short questions do not fit into its {_room(template) + 1:,} tokens"
        raise ModelError("the model's context is too small to be asked anything", why=why)
    what = "general questions, since it came without rows"
    longest = max(questions, key=lambda question: len(question.ids))
    return Asked(questions, longest, PROBE_TOKENS, what)


def _to_be_answered(example: Example) -> Example:
    """Return the example with an answer to come, as those of rows have."""
    return example.model_copy(update={"messages": (*example.messages, Message(role="assistant", content=" "))})


def _asked_of_rows(trained: Trained, spec: EvaluateSpec, template: "Template", emit: Emit, *, most: Most) -> Asked:
    from luthier.evaluate.exam import set_exam

    exam = set_exam(spec, trained.prepared, emit, seed=SEED)
    longest = _longest(trained, template)
    if not exam.asked:
        rows = exam.rows[: most.prompts(CONTINUED_TOKENS)]
        begun = [Question(row.ids[: row.prompt_tokens or max(1, len(row.ids) // 2)]) for row in rows]
        return Asked(begun, longest, CONTINUED_TOKENS, f"{len(begun)} held-out texts, continued")
    exam = replace(exam, asked=exam.asked[: most.prompts(exam.max_new_tokens)])
    questions = [
        Question(ids, example if example.messages else None)
        for ids, example in zip(exam.prompts, exam.questions, strict=True)
    ]
    return Asked(questions, longest, exam.max_new_tokens, f"{len(questions)} held-out prompts", exam)


def _longest(trained: Trained, template: "Template") -> Question:
    """Return the longest prompt of all rows."""
    from luthier.examples.store import Split

    best: tuple[int, Split, int] | None = None
    for name in ("train", "validation", "test"):
        split = Split(trained.prepared.split(name))
        for row in range(len(split)):
            encoded = split.encoded(row)
            tokens = encoded.prompt_tokens or len(encoded.ids)
            if best is None or tokens > best[0]:
                best = (tokens, split, row)
    if best is None:
        raise ModelError("there is no row to prove an export with", where={"folder": trained.prepared.folder})
    tokens, split, row = best
    example = split.example(row)
    is_chat = bool(example.messages) and template.has_chat
    return Question(split.encoded(row).ids[: max(1, min(tokens, _room(template)))], example if is_chat else None)


def _room(template: "Template") -> int:
    return int(template.tokenizer.model_max_length) - 1


def names_of(sources: Sequence[Source]) -> list[str]:
    """Return the sources' names; where two are alike, numbered."""
    names: list[str] = []
    for source in sources:
        name, number = source.name, 1
        while name in names:
            number += 1
            name = f"{source.name}-{number}"
        names.append(name)
    return names
