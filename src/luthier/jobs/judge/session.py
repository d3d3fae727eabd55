"""Session: one person's way through a contest, one key at a time; whatever ends it, what was said is kept."""

from dataclasses import dataclass, field

from luthier.jobs.judge.contest import Contest, Pair, Side
from luthier.jobs.judge.ledger import Choice, Judgment, Ledger

KEYS: dict[str, str] = {"a": "A is better", "b": "B is better", "t": "tie", "s": "skip", "u": "undo", "q": "quit"}
OTHER: dict[Side, Side] = {"first": "second", "second": "first"}


@dataclass(frozen=True)
class View:
    """A pair as the judge sees it."""

    pair: Pair
    number: int
    """Counts from 1."""
    of: int
    left: Side

    @property
    def a(self) -> str:
        """The answer called A."""
        return self.pair.first if self.left == "first" else self.pair.second

    @property
    def b(self) -> str:
        """The answer called B."""
        return self.pair.second if self.left == "first" else self.pair.first


@dataclass
class Session:
    """Where a person stands in a contest."""

    contest: Contest
    ledger: Ledger
    rows: int | None = None
    """Pairs to judge at most, counted from the first: all judges meet the same ones."""
    quit: bool = field(default=False, init=False)
    """Whether the person left."""

    def view(self) -> View | None:
        """Return the first pair that this judge has said nothing about; None after the last."""
        if self.quit:
            return None
        done = self.ledger.standing()
        pairs = self.contest.pairs[: self.rows]
        place = next((place for place, pair in enumerate(pairs) if pair.key not in done), None)
        if place is None:
            return None
        left = pairs[place].left(self.contest.seed, self.ledger.judge)
        return View(pairs[place], place + 1, len(pairs), left)

    def press(self, key: str, view: View) -> bool:
        """Do what a key says about the pair in view; False where there is nothing to undo."""
        if key == "q":
            self.quit = True
        elif key == "u":
            return self._undo()
        else:
            sides: dict[str, Choice] = {"a": view.left, "b": OTHER[view.left], "t": "tie", "s": "skip"}
            self._say(view.pair.key, view.pair.row, sides[key], view.left)
        return True

    def _undo(self) -> bool:
        last = next(reversed(self.ledger.standing().values()), None)
        if last is None:
            return False
        self._say(last.pair, last.row, "undo", last.left)
        return True

    def _say(self, pair: str, row: str, choice: Choice, left: Side | None) -> None:
        contest, ledger = self.contest, self.ledger
        judgment = Judgment(
            pair=pair,
            row=row,
            first=contest.first,
            second=contest.second,
            judge=ledger.judge,
            choice=choice,
            left=left,
        )
        ledger.say(judgment)
