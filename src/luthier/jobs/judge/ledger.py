"""Ledger: every judgment as one line of a file per judge, appended at once and never changed."""

import re
import time
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from luthier.core.errors import CheckpointError, RecipeError
from luthier.core.files import disk_errors, write_atomic
from luthier.jobs.judge.contest import Contest, Side

Choice = Literal["first", "second", "tie", "skip", "undo", "unjudged"]
JudgeKind = Literal["person", "model"]
CHOSEN = ("first", "second", "tie")
NAME = re.compile(r"[\w][\w.@+-]{0,63}")
PEOPLE = "people"
"""What all people say together."""


class Judgment(BaseModel):
    """What one judge said about one pair."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    pair: str
    """The pair's key."""
    row: str
    """Where the row comes from."""
    first: str
    """The first system."""
    second: str
    """The second system."""
    judge: str
    """Who says it."""
    kind: JudgeKind = "person"
    """Whether a person or a model says it."""
    model: str = ""
    """The model's name at its endpoint."""
    choice: Choice
    """The better system, a tie, nothing (skip), the last word taken back (undo), or why not (unjudged)."""
    left: Side | None = None
    """Whose answer stood on the left; a model sees both orders."""
    consistent: bool | None = None
    """Whether a model said the same in both orders."""
    reason: str = ""
    """Why a pair is unjudged."""
    time_s: float = Field(default_factory=time.time)
    """When it was said."""


class Ledger:
    """The judgments of one judge in one contest."""

    def __init__(self, contest: Contest, judge: str, *, model: str = "") -> None:
        if not NAME.fullmatch(judge) or judge == PEOPLE:
            hint = "up to 64 letters, digits and . _ - @ +, and not `people`"
            raise RecipeError("this cannot be a judge's name", where={"--judge": judge}, hint=hint)
        self.contest, self.judge = contest, judge
        self.path = contest.folder / f"{judge}.jsonl"
        self.said = read_judgments(self.path)
        other = next((one for one in self.said if one.model != model), None)
        if other is not None:
            was, hint = f"the model {other.model}" if other.model else "a person", "give another name with `--judge`"
            raise RecipeError(f"`{judge}` has judged here as {was}", where={"file": self.path}, hint=hint)

    def open(self) -> Self:
        """Make the file, and cut off a last line that a crash left half-written."""
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
        data = self.path.read_bytes()
        if data and not data.endswith(b"\n"):
            write_atomic(self.path, data[: data.rfind(b"\n") + 1])
        return self

    def say(self, judgment: Judgment) -> None:
        """Keep a judgment, on the disk before anything else is asked."""
        with disk_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(judgment.model_dump_json() + "\n")
        self.said.append(judgment)

    def standing(self) -> dict[str, Judgment]:
        """Return what holds of each pair of the contest, in the order in which it was said."""
        return standing(self.said, self.contest)


def standing(said: list[Judgment], contest: Contest) -> dict[str, Judgment]:
    """Return the last word on each pair of the contest; what was taken back, or says nothing of these pairs, is out."""
    known, last = {pair.key for pair in contest.pairs}, dict[str, Judgment]()
    for judgment in said:
        last.pop(judgment.pair, None)
        if judgment.choice != "undo" and judgment.pair in known:
            last[judgment.pair] = judgment
    return last


def read_judgments(path: Path) -> list[Judgment]:
    """Return the lines of a judge's file; a last line cut by a crash is passed over."""
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        try:
            found.append(Judgment.model_validate_json(line))
        except ValidationError as error:
            where = {"file": path, "line": number}
            raise CheckpointError("this judgment cannot be read", where=where, hint="remove the line") from error
    return found


def all_judgments(contest: Contest) -> dict[str, list[Judgment]]:
    """Return what each judge of the contest said, by name."""
    files = sorted(contest.folder.glob("*.jsonl"))
    return {path.stem: said for path in files if (said := read_judgments(path))}
