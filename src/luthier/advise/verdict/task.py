"""Which kind of task the rows are, from what stands in them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from luthier.core.artifacts import AnswerKind

TaskKind = Literal[
    "classification", "extraction", "summarisation", "translation", "chat", "code", "generation", "preference", "text"
]
"""What a model is asked to do."""
MOST = 0.5
"""Share of rows that must look alike for a kind to be named."""
SHORT = 1 / 3
"""An answer that is a summary has at most so many of its prompt's words."""
TAKEN = 0.5
"""And takes at least so many of its own words from there."""
SAME_LENGTH = (0.4, 2.5)
"""A translation has about as many words as its source."""
TALK_TURNS = 3
WORDS = re.compile(r"\w+")
CODE = re.compile(
    r"```|^\s*(def |class |import |from \w+ import |return\b|#include|function |SELECT\b.+\bFROM\b|public |const |let )"
    r"|[;{}]\s*$",
    re.MULTILINE | re.IGNORECASE,
)
TRANSLATE = re.compile(r"\btranslat|\bübersetz|\btradui|\btraduc|\bpřelož|\bprzetłumacz|\bprevedi", re.IGNORECASE)
SUMMARISE = re.compile(r"\bsummar|\btl;?dr\b|\bin short\b|\bzusammenfass|\bresum", re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    """One row: what is asked, what is answered, and in how many turns."""

    prompt: str
    answer: str
    turns: int = 2


@dataclass(frozen=True)
class Task:
    """A kind of task, and what it was recognised by."""

    kind: TaskKind
    because: str


def recognise(answers: AnswerKind, rows: Sequence[Asked]) -> Task:
    """Return the kind of task; free answers are told apart by their words."""
    plain: dict[AnswerKind, Task] = {
        "closed": Task("classification", "the answers are a closed set of labels"),
        "json": Task("extraction", "the answers are JSON objects"),
        "pair": Task("preference", "the rows are pairs of a better and a worse answer"),
        "text": Task("text", "there is only text, no prompt"),
    }
    if answers in plain:
        return plain[answers]
    signs: tuple[tuple[TaskKind, str, float], ...] = (
        ("translation", "prompts that ask to translate, or answers as long in other words", _share(rows, _translates)),
        ("summarisation", "answers of a third of the prompt's words, or less, taken from it", _share(rows, _sums_up)),
        ("code", "answers that look like code", _share(rows, lambda row: bool(CODE.search(row.answer)))),
        ("chat", "conversations of several turns", _share(rows, lambda row: row.turns > TALK_TURNS)),
    )
    for kind, sign, share in signs:
        if share >= MOST:
            return Task(kind, f"{share:.0%} of {len(rows)} rows are {sign}")
    return Task("generation", "free answers that show no other kind")


def _share(rows: Sequence[Asked], holds: object) -> float:
    return sum(bool(holds(row)) for row in rows) / len(rows) if rows and callable(holds) else 0.0


def _translates(row: Asked) -> bool:
    if TRANSLATE.search(row.prompt):
        return True
    asked, answered = WORDS.findall(row.prompt.lower()), WORDS.findall(row.answer.lower())
    if len(answered) < 3 or not SAME_LENGTH[0] <= len(answered) / max(1, len(asked)) <= SAME_LENGTH[1]:
        return False
    # Other letters than the prompt's: another script, or accents that it has none of.
    foreign = {letter for letter in row.answer if letter.isalpha() and not letter.isascii()}
    shared = {word for word in set(asked) & set(answered) if len(word) > 3}
    return bool(foreign - set(row.prompt)) and not shared


def _sums_up(row: Asked) -> bool:
    asked, answered = WORDS.findall(row.prompt.lower()), WORDS.findall(row.answer.lower())
    if len(answered) < 3 or len(answered) > SHORT * len(asked):
        return False
    if SUMMARISE.search(row.prompt):
        return True
    known = set(asked)
    return sum(word in known for word in answered) / len(answered) >= TAKEN and len(asked) > 40
