"""Predict: what a run's head says of texts or answers to questions about them, or what an encoder-decoder writes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from luthier.core.artifacts import HeadKind
from luthier.core.errors import DataError, RecipeError
from luthier.core.events import Emit
from luthier.core.runfolder import RunFolder
from luthier.jobs.pipeline import trained_of
from luthier.jobs.prepare import saved_plan
from luthier.jobs.texts import Asked
from luthier.recipe import Plan
from luthier.train.spec import is_seq2seq

if TYPE_CHECKING:
    from luthier.jobs.writer import Writer
    from luthier.model.headcard import HeadCard
    from luthier.model.headstep import HeadStep, Logits
    from luthier.model.pairs import Pair
    from luthier.model.reader import Reader, Reading
    from luthier.model.vectors import VectorStep

ROWS = 512
"""Texts that are read at once."""
DIGITS = 6
VECTOR_DIGITS = 7


class Entity(BaseModel):
    """A named piece of the text."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    start: int
    """Its first character, counted from 0."""
    end: int
    """The character after its last one."""
    label: str
    text: str
    probability: float
    """Of its least certain word."""


class Prediction(BaseModel):
    """What the model says of one text."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    text: str
    cut: bool = False
    """Whether the text is longer than the training rows could be, so that its end was not read."""
    label: str | None = None
    """The likeliest label, where a text has one."""
    labels: tuple[str, ...] | None = None
    """The labels that are likelier than not, where a text may have several."""
    probabilities: dict[str, float] = Field(default_factory=dict)
    """Of each label, the likeliest first."""
    score: float | None = None
    """The number, where the head says numbers."""
    entities: tuple[Entity, ...] | None = None
    """The entities, in their order."""
    question: str | None = None
    """What was asked about the text."""
    answer: str | None = None
    """The piece of the text that answers the question, empty where the text does not say it; or what an
    encoder-decoder writes."""
    start: int | None = None
    """The answer's first character, counted from 0."""
    end: int | None = None
    """The character after its last one."""
    probability: float | None = None
    """Of the answer, or of there being none."""
    vector: tuple[float, ...] | None = None
    """The text's vector, where vectors were trained."""


@dataclass(frozen=True)
class Predictor:
    """A run's model with its head, ready to be asked."""

    step: "HeadStep | VectorStep"
    reader: "Reader"

    def predict(self, texts: Sequence[str]) -> Iterator[Prediction]:
        """Yield what the head says of each text, in their order."""
        for start in range(0, len(texts), ROWS):
            yield from self._predict(texts[start : start + ROWS], start)

    def answer(self, asked: Sequence[Asked]) -> Iterator[Prediction]:
        """Yield what the head answers to each question about its text, in their order."""
        from luthier.model.quoting import find_quotes

        card = self.step.card
        for start in range(0, len(asked), ROWS):
            some = asked[start : start + ROWS]
            pairs = [self._pair(one, start + place) for place, one in enumerate(some)]
            for one, found in zip(some, find_quotes(self.step, pairs), strict=True):
                said = {"probability": round(found.probability(card), DIGITS), "answer": ""}
                if not found.is_nothing(card):
                    said |= {"answer": one.text[found.start : found.end], "start": found.start, "end": found.end}
                yield Prediction(text=one.text, question=one.question, **said)

    def _pair(self, asked: Asked, number: int) -> "Pair":
        where = {"row": str(number + 1)}
        if not asked.question.strip() or not asked.text.strip():
            raise DataError("a question or its text is empty", where=where, hint="leave it out")
        try:
            pair = self.reader.pair(asked.question.strip(), asked.text)
        except DataError as error:
            raise DataError(error.what, where=where, why=error.why, hint="leave it out, or repair it") from error
        limit, rest = self.step.card.tokens, len(pair.ids) - len(pair.places)
        if len(pair.ids) > limit and 2 * rest > limit:
            why = f"it takes {rest:,} of the {limit:,} tokens that are read at once"
            raise DataError("a question leaves too little room for its text", where=where, why=why, hint="shorten it")
        return pair

    def _predict(self, texts: Sequence[str], first: int) -> Iterator[Prediction]:
        from luthier.examples.store import Encoded
        from luthier.model.vectors import outputs_of

        readings = [self._read(text, first + place) for place, text in enumerate(texts)]
        limit = self.step.card.tokens
        kept = [reading.cut(limit) for reading in readings]
        rows = [Encoded(one.ids, [False] * len(one.ids), len(one.ids), words=tuple(one.tokens)) for one in kept]
        outputs = outputs_of(self.step, rows)
        for text, whole, reading, logits in zip(texts, readings, kept, outputs, strict=True):
            said = told(self.step.card, text, reading, logits)
            yield said.model_copy(update={"cut": len(whole.ids) > limit})

    def _read(self, text: str, number: int) -> "Reading":
        where = {"text": str(number + 1)}
        if not text.strip():
            raise DataError("a text is empty", where=where, hint="leave it out")
        try:
            return self.reader.read(text)
        except DataError as error:
            raise DataError(error.what, where=where, why=error.why, hint="leave it out, or repair it") from error


def takes_questions(folder: RunFolder) -> bool:
    """Tell whether a run's head answers questions about texts, and does not judge texts alone."""
    return "quote" in saved_plan(folder).train.method.heads


def open_predictor(folder: RunFolder, emit: Emit) -> "Predictor | Writer":
    """Load the model of a run that has a head, or is an encoder-decoder."""
    plan = saved_plan(folder)
    if is_seq2seq(plan.train.method):
        from luthier.jobs.writer import open_writer

        return open_writer(plan, folder, emit)
    if not plan.train.method.heads:
        why = f"it was trained with `{plan.train.method.name}`, which writes answers"
        hint = "talk to it: `luthier chat RUN`"
        raise RecipeError("this run has no head to ask", where={"run": folder.path}, why=why, hint=hint)

    from luthier.model.adapter import load_tuned
    from luthier.model.base import resolve_base
    from luthier.model.headcard import HeadCard
    from luthier.model.load import load_tokenizer
    from luthier.model.reader import Reader
    from luthier.model.vectors import step_for

    base = resolve_base(plan.base_model, emit)
    trained = trained_of(folder, base)
    card = HeadCard.read(trained.weights)
    if card is None:
        hint = "train it again"
        raise DataError("the weights have no `head.json`", where={"folder": trained.weights}, hint=hint)
    return Predictor(step_for(load_tuned(base.folder, trained.weights), card), Reader(load_tokenizer(base.folder)))


def told(card: "HeadCard", text: str, reading: "Reading", logits: "Logits") -> Prediction:
    """Return in words what a head's outputs say of a text."""
    import numpy as np

    from luthier.evaluate.heads.said import said_labels
    from luthier.model.headstep import probabilities

    if card.is_vector:
        return Prediction(text=text, vector=tuple(round(float(number), VECTOR_DIGITS) for number in logits))
    if card.kind == "score":
        return Prediction(text=text, score=round(card.mean + card.spread * float(logits[0]), DIGITS))
    if card.kind == "spans":
        return Prediction(text=text, entities=tuple(_entities(card, text, reading, logits)))
    found = probabilities(card, logits)
    order = np.argsort(-found, kind="stable")
    shares = {card.labels[number]: round(float(found[number]), DIGITS) for number in order}
    labels = said_labels(card, found[None])[0]
    if card.kind == "label":
        return Prediction(text=text, label=labels[0], probabilities=shares)
    return Prediction(text=text, labels=labels, probabilities=shares)


def _entities(card: "HeadCard", text: str, reading: "Reading", logits: "Logits") -> Iterator[Entity]:
    from luthier.evaluate.heads.said import tags_said
    from luthier.examples.spans import spans_of
    from luthier.model.headstep import probabilities

    if not len(logits):
        return
    sure = probabilities(card, logits).max(axis=-1)
    for span in spans_of(reading.words, tags_said(card, logits)):
        within = [number for number, (start, end) in enumerate(reading.words) if start < span.end and end > span.start]
        least = round(float(min(sure[number] for number in within)), DIGITS)
        yield Entity(**span.model_dump(), text=text[span.start : span.end], probability=least)


def refuse_head(plan: Plan, what: str, *, where: Path) -> None:
    """Raise RecipeError where a run has a head or an encoder-decoder, and so cannot do what a causal model does."""
    heads: tuple[HeadKind, ...] = plan.train.method.heads
    if heads:
        why = f"it was trained with `{plan.train.method.name}`: its head judges texts and writes none"
        raise RecipeError(
            f"this run cannot {what}", where={"run": where}, why=why, hint="ask it with `luthier predict RUN`"
        )
    if is_seq2seq(plan.train.method):
        why = "its encoder-decoder reads one text and writes another; it does not go on with a conversation"
        raise RecipeError(
            f"this run cannot {what}", where={"run": where}, why=why, hint="ask it with `luthier predict RUN`"
        )
