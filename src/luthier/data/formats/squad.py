"""Questions about a text, as SQuAD has them: each answer is a piece of the text, or the text does not say it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from luthier.data.formats.shape import Sample, columns_of, question_answer, text_in
from luthier.data.rows import RowError, Value
from luthier.data.spec import DataSpec
from luthier.examples.example import NO_ANSWER, Example, Quote, Segment

QUESTION, CONTEXT, START = "question", "context", "answer_start"
ANSWERS = ("answers", "answer")
IMPOSSIBLE = "is_impossible"
ASKED = f"Answer the question with words of the text. If the text does not say it, answer: {NO_ANSWER}."
SHOWN_PLACES = 3


@dataclass(frozen=True)
class Squad:
    """`question`, `context`, and `answers` of `text` and `answer_start`, or a flat `answer` and `answer_start`."""

    name: ClassVar[str] = "squad"
    needs: ClassVar[str] = "`question`, `context` and `answers` of `text` and `answer_start`"
    answers: str
    raw: bool
    """Whether a head is to find the answer, or a model is to write it."""

    @classmethod
    def recognise(cls, sample: Sample, spec: DataSpec) -> Self | None:
        """Return the format if the rows have a question, a text, and answers that know where they stand."""
        if not sample.has(QUESTION, CONTEXT, kind=str):
            return None
        many = sample.has("answers", kind=dict) or sample.has("answers", kind=list)
        flat = sample.has("answer") and sample.has(START)
        named = "answers" if many else "answer" if flat else None
        return cls(named, spec.render == "text") if named else None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns used."""
        return (QUESTION, CONTEXT, self.answers, IMPOSSIBLE, *([START] if self.answers == "answer" else []))

    def read(self, row: Value) -> Example:
        """Return the question and the text with the accepted answers, for a head or as a turn of a conversation."""
        question, context = text_in(row, QUESTION).strip(), text_in(row, CONTEXT)
        impossible = columns_of(row).get(IMPOSSIBLE) in (True, "true", "True", 1)
        quotes = () if impossible else tuple(self._quotes(row, context))
        if self.raw:
            segments = (Segment(text=question, target=False), Segment(text=context, target=False))
            return Example(segments=segments, quotes=quotes)
        prompt = f"{ASKED}\n\n{context}\n\nQuestion: {question}"
        asked = question_answer(prompt, quotes[0].text if quotes else NO_ANSWER)
        return asked.model_copy(update={"quotes": quotes})

    def _quotes(self, row: Value, context: str) -> Iterator[Quote]:
        for text, start, at in self._given(columns_of(row)):
            if not isinstance(text, str) or not text.strip():
                raise RowError("the answer is not text", at[0], code="bad_answer")
            number = int(start) if isinstance(start, str) and start.isdecimal() else start
            if not isinstance(number, int) or isinstance(number, bool) or number < 0:
                raise RowError("`answer_start` is not a character's number", at[1], code="bad_answer")
            if context[number : number + len(text)] != text:
                raise RowError(_misplaced(text, number, context), at[1], code="bad_answer")
            yield Quote(start=number, text=text)

    def _given(self, row: dict[str, Any]) -> Iterator[tuple[Any, Any, tuple[str, str]]]:
        """Yield text and place of each answer, and where in the row both stand."""
        value = row.get(self.answers)
        if self.answers == "answer":
            if value not in (None, ""):
                yield value, row.get(START), ("/answer", f"/{START}")
            return
        if isinstance(value, list):
            for place, one in enumerate(value):
                if not isinstance(one, dict):
                    raise RowError("not an object with `text` and `answer_start`", f"/answers/{place}")
                yield one.get("text"), one.get(START), (f"/answers/{place}/text", f"/answers/{place}/{START}")
            return
        texts, starts = (value.get("text"), value.get(START)) if isinstance(value, dict) else (None, None)
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            why = "`answers` needs as many `text` as `answer_start`, both as lists; both empty where there is no answer"
            raise RowError(why, "/answers", code="bad_answer")
        for place, (text, start) in enumerate(zip(texts, starts, strict=True)):
            yield text, start, (f"/answers/text/{place}", f"/answers/{START}/{place}")


def _misplaced(text: str, start: int, context: str) -> str:
    found, at = [], context.find(text)
    while at >= 0 and len(found) < SHOWN_PLACES:
        found.append(str(at))
        at = context.find(text, at + 1)
    shown = text if len(text) <= 40 else f"{text[:40]}…"
    where = f"it stands at {', '.join(found)}" if found else "the context does not hold it"
    return f"the answer {shown!r} does not stand at character {start}: {where}"
