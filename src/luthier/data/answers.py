"""What kind of answers the rows have, counted as they are read."""

from luthier.core.artifacts import AnswerKind
from luthier.examples.example import Example
from luthier.score.structured import parse_object

MAX_ANSWERS = 50
MAX_CHARACTERS = 60


class Answers:
    """Counts the different short answers until there are too many to be a closed set."""

    def __init__(self) -> None:
        self._rows = self._prompted = self._objects = self._labelled = self._pairs = 0
        self._short = True
        self._numbers: dict[str, int] = {}

    def add(self, example: Example) -> int:
        """Count the row's answer and return its number, or -1 where the set is not closed."""
        answer = example.answer
        self._rows += 1
        self._prompted += example.context is not None
        self._objects += parse_object(answer) is not None
        self._labelled += example.label is not None
        self._pairs += example.rejected is not None
        self._short = self._short and 0 < len(answer) <= MAX_CHARACTERS and "\n" not in answer.strip()
        if example.label is None and (not self._short or len(self._numbers) > MAX_ANSWERS):
            return -1
        return self._numbers.setdefault(answer, len(self._numbers))

    @property
    def kind(self) -> AnswerKind:
        """Closed, JSON, free, pairs, or text without a prompt."""
        if not self._prompted:
            return "text"
        if self._pairs:
            return "pair"
        if self._labelled == self._rows:
            return "closed"
        if self._objects == self._rows:
            return "json"
        recur = 2 * len(self._numbers) <= self._rows
        return "closed" if self._short and recur and 1 < len(self._numbers) <= MAX_ANSWERS else "free"

    @property
    def labels(self) -> tuple[str, ...]:
        """The closed set by number; empty where answers are open."""
        return tuple(self._numbers) if self.kind == "closed" else ()
