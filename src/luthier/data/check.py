"""The check of a data set: what is in it, what is wrong with it, and in which rows."""

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
from pydantic import BaseModel, ConfigDict

from luthier.core.artifacts import AnswerKind
from luthier.data.duplicates import Groups
from luthier.data.ledger import Survey
from luthier.data.opened import PARTS
from luthier.data.rows import RowIssue
from luthier.data.suspects import SECRETS

LISTED = 200
"""Most groups or rows listed where a count says how many there are."""
FEW_ROWS = 50
FEW_PER_LABEL = 5


class Found(BaseModel):
    """A frozen part of the result; each field carries its sentence."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Places(Found):
    """Rows of one kind: how many, and where the first are."""

    count: int
    """How many there are in all."""
    rows: tuple[tuple[str, ...], ...]
    """The first groups, each row as `file:row`."""


class Suspect(Found):
    """A kind of secret or personal data that some rows seem to hold; the data itself is not repeated."""

    kind: str
    """What it looks like."""
    secret: bool
    """A secret, or else personal data."""
    count: int
    """Rows in which it was found."""
    rows: tuple[str, ...]
    """The first of them, as `file:row`."""


class Bin(Found):
    """One bar of the histogram of lengths."""

    low: int
    """Shortest length counted, in tokens."""
    high: int
    """Longest length counted, in tokens."""
    rows: int
    """Rows of such a length."""


class DataCheck(Found):
    """The result of `luthier data check`."""

    rows: int
    """Rows seen, readable or not."""
    unreadable: tuple[RowIssue, ...]
    """Rows that cannot be read, and why."""
    dropped: tuple[RowIssue, ...]
    """Rows left out: `duplicate`, `too_long`, `no_target` or `leak`."""
    cut: tuple[RowIssue, ...]
    """Rows cut at their end."""
    near_duplicates: Places
    """Groups of rows that say nearly the same; each stays in one split."""
    conflicts: Places
    """Groups of rows with the same prompt and different answers."""
    answer_kind: AnswerKind
    """What the answers are."""
    labels: dict[str, dict[str, int]]
    """Rows by label and split; empty where answers are open."""
    untrained_labels: tuple[str, ...]
    """Labels of validation or test rows that no training row has."""
    lengths: tuple[Bin, ...]
    """Histogram of tokens a row, before any was cut or dropped."""
    only_last: int
    """Conversations of which only the last answer is trained, since the template renders earlier ones differently."""
    suspects: tuple[Suspect, ...]
    """Kinds of secrets and personal data that seem to be in the rows."""

    def count(self, code: str) -> int:
        """Return how many rows were left out for one reason."""
        return sum(issue.code == code for issue in self.dropped)

    def warnings(self) -> list[str]:
        """Return in words what a person should know before training."""
        return [sentence for rule in _RULES for sentence in rule(self)]


def make_check(survey: Survey, near: Groups, parts: np.ndarray) -> DataCheck:
    """Put together what the pass, the comparison and the split found; `parts` is -1 for rows left out as leaks."""
    labels = _labels(survey, parts)
    train = {label for label, counts in labels.items() if counts["train"]}
    return DataCheck(
        rows=survey.rows,
        unreadable=tuple(survey.unreadable),
        dropped=tuple(survey.dropped),
        cut=tuple(survey.cut),
        near_duplicates=_near(survey, near),
        conflicts=_conflicts(survey),
        answer_kind=survey.answers.kind,
        labels=labels,
        untrained_labels=tuple(
            label for label, counts in labels.items() if label not in train and sum(counts.values())
        ),
        lengths=_histogram(np.array(survey.lengths, dtype=np.int64)),
        only_last=survey.only_last,
        suspects=tuple(
            Suspect(kind=kind, secret=kind in SECRETS, count=len(rows), rows=tuple(rows[:LISTED]))
            for kind, rows in sorted(survey.suspects.items())
        ),
    )


def _labels(survey: Survey, parts: np.ndarray) -> dict[str, dict[str, int]]:
    names, numbers = survey.answers.labels, survey.ledger.column("label")
    found = {
        label: {part: int(np.sum((numbers == number) & (parts == index))) for index, part in enumerate(PARTS)}
        for number, label in enumerate(names)
    }
    return dict(sorted(found.items()))


def _near(survey: Survey, near: Groups) -> Places:
    roots, sizes = np.unique(near.roots(), return_counts=True)
    return _places(survey, near.roots(), set(roots[sizes > 1].tolist()))


def _conflicts(survey: Survey) -> Places:
    prompts, answers = survey.ledger.column("prompt"), survey.ledger.column("answer")
    pairs = np.unique(np.stack([prompts, answers], axis=1), axis=0)[:, 0] if len(prompts) else prompts
    several, counts = np.unique(pairs, return_counts=True)
    return _places(survey, prompts, set(several[counts > 1].tolist()) - {0})


def _places(survey: Survey, groups: np.ndarray, wanted: set[int]) -> Places:
    members: dict[int, list[str]] = {}
    for index, group in enumerate(groups.tolist()):
        if group in wanted and (group in members or len(members) < LISTED):
            members.setdefault(group, []).append(survey.place(index))
    return Places(count=len(wanted), rows=tuple(tuple(rows[:LISTED]) for rows in members.values()))


def _histogram(lengths: np.ndarray) -> tuple[Bin, ...]:
    if not len(lengths):
        return ()
    # About twelve bins of a round width: 1, 2, 5, 10, 20, 50, …
    wanted = max(int(lengths.max()) / 12, 1)
    magnitude = 10 ** math.floor(math.log10(wanted))
    width = next(step * magnitude for step in (1, 2, 5, 10) if step * magnitude >= wanted)
    counts = Counter((lengths // width).tolist())
    return tuple(
        Bin(low=index * width, high=index * width + width - 1, rows=counts[index])
        for index in range(min(counts), max(counts) + 1)
    )


def _several(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _few(check: DataCheck) -> list[str]:
    return [f"only {_several(check.rows, 'row')}: results will vary by luck"] if check.rows < FEW_ROWS else []


def _left_out(check: DataCheck) -> list[str]:
    reasons = {
        "left out: unreadable": len(check.unreadable),
        "left out: the same as another": check.count("duplicate"),
        "left out: too long": check.count("too_long"),
        "left out: nothing to train on": check.count("no_target"),
        "left out: nearly the same as a held-out row": check.count("leak"),
        "cut at the end, which teaches not to stop": len(check.cut),
    }
    return [f"{_several(count, 'row')} {words}" for words, count in reasons.items() if count]


def _contradictions(check: DataCheck) -> list[str]:
    count = check.conflicts.count
    return [f"{_several(count, 'prompt')} with several different answers"] if count else []


def _balance(check: DataCheck) -> list[str]:
    rare = [label for label, counts in check.labels.items() if 0 < counts["train"] < FEW_PER_LABEL]
    few = [f"fewer than {FEW_PER_LABEL} training rows have the label {', '.join(map(repr, rare[:5]))}"] if rare else []
    unseen = check.untrained_labels
    return few + ([f"no training row has the label {', '.join(map(repr, unseen[:5]))}"] if unseen else [])


def _sensitive(check: DataCheck) -> list[str]:
    return [
        f"{_several(suspect.count, 'row')} with what looks like "
        f"{'a secret' if suspect.secret else 'personal data'}: {suspect.kind}"
        for suspect in check.suspects
    ]


def _history(check: DataCheck) -> list[str]:
    words = "only the last answer is trained, since the chat template renders earlier ones differently"
    return [f"in {_several(check.only_last, 'conversation')} {words}"] if check.only_last else []


_RULES: tuple[Callable[[DataCheck], list[str]], ...] = (
    _few,
    _left_out,
    _contradictions,
    _balance,
    _history,
    _sensitive,
)
