"""What kind of answers the rows have, counted as they are read."""

from luthier.core.artifacts import AnswerKind
from luthier.examples.example import Example
from luthier.score.structured import parse_object

MAX_ANSWERS = 50
MAX_CHARACTERS = 60
BINARY = ("0", "1")
"""What is named of texts that are either alike or not."""


class Answers:
    """Counts the different short answers until there are too many to be a closed set."""

    def __init__(self) -> None:
        self._rows = self._prompted = self._objects = self._labelled = self._pairs = self._quoted = 0
        self._short = True
        self._numbers: dict[str, int] = {}
        self._judged: AnswerKind | None = None
        self._named: set[str] = set()
        self._all_binary = True

    def add(self, example: Example) -> int:
        """Count the row's answer and return its number, or -1 where the set is not closed."""
        answer = example.answer
        self._rows += 1
        if example.is_judged:
            return self._add_judged(example, answer)
        self._prompted += example.context is not None
        self._objects += parse_object(answer) is not None
        self._labelled += example.label is not None
        self._pairs += example.rejected is not None
        self._quoted += example.quotes is not None
        self._short = self._short and 0 < len(answer) <= MAX_CHARACTERS and "\n" not in answer.strip()
        if example.label is None and (not self._short or len(self._numbers) > MAX_ANSWERS):
            return -1
        return self._numbers.setdefault(answer, len(self._numbers))

    def _add_judged(self, example: Example, answer: str) -> int:
        if example.others is not None:
            return self._add_compared(example)
        if example.label is not None:
            self._judged = "label"
            return self._numbers.setdefault(answer, len(self._numbers))
        if example.labels is not None:
            self._judged = "labels"
            self._named.update(example.labels)
        elif example.spans is not None:
            self._judged = "spans"
            self._named.update(span.label for span in example.spans)
        elif example.quotes is not None:
            self._judged = "quote"
        else:
            self._judged = "score"
        return -1

    def _add_compared(self, example: Example) -> int:
        if example.score is None:
            self._judged = "match" if len(example.others or ()) == 1 else "triplet"
        else:
            self._judged = "likeness"
            self._all_binary = self._all_binary and example.score in (0.0, 1.0)
            self._named = set(BINARY) if self._all_binary else set()
        return -1

    @property
    def kind(self) -> AnswerKind:
        """Closed, JSON, free, pairs, or text without a prompt; or what a head says."""
        if self._judged:
            return self._judged
        if not self._prompted:
            return "text"
        if self._pairs:
            return "pair"
        if self._quoted == self._rows:
            return "accepted"
        if self._labelled == self._rows:
            return "closed"
        if self._objects == self._rows:
            return "json"
        recur = 2 * len(self._numbers) <= self._rows
        return "closed" if self._short and recur and 1 < len(self._numbers) <= MAX_ANSWERS else "free"

    @property
    def labels(self) -> tuple[str, ...]:
        """The closed set by number; empty where answers are open, or a row has several labels."""
        return tuple(self._numbers) if self.kind in ("closed", "label") else ()

    @property
    def named(self) -> tuple[str, ...]:
        """All labels, or kinds of entities, sorted; empty where answers are open."""
        return tuple(sorted(self.labels or self._named))
