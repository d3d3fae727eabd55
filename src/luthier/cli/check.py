"""The result of `luthier data check` as text."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from luthier.cli.tell import put, put_table

if TYPE_CHECKING:
    from luthier.data.check import Bin, DataCheck, Places
    from luthier.data.rows import RowIssue

LISTED = 10
BAR = 40
KINDS = {
    "duplicate": "said word for word before",
    "leak": "nearly the same as a held-out row",
    "too_long": "longer than a row may be",
    "no_target": "without a token to train on",
}


def put_check(found: "DataCheck") -> None:
    """Write counts first, then the rows, then what they mean."""
    put(f"{found.rows:,} rows, answers: {found.answer_kind}")
    for text in _findings(found):
        put(text)
    _put_labels(found)
    if found.lengths:
        put("\nlength in tokens")
        for line in histogram(found.lengths):
            put(line)
    warnings = found.warnings()
    put("\nto think about" if warnings else "\nnothing to worry about")
    for warning in warnings:
        put(f"- {warning}")


def _findings(found: "DataCheck") -> Iterator[str]:
    yield from _issues("unreadable", found.unreadable)
    for code, words in KINDS.items():
        yield from _issues(f"left out, {words}", tuple(issue for issue in found.dropped if issue.code == code))
    yield from _issues("cut at the end", found.cut)
    yield from _places("groups of near-duplicates, each kept in one split", found.near_duplicates)
    yield from _places("groups with one prompt and different answers", found.conflicts)
    for suspect in found.suspects:
        kind = "secret" if suspect.secret else "personal data"
        yield f"{suspect.count:,} rows seem to hold {kind} ({suspect.kind}): {_some(list(suspect.rows), suspect.count)}"


def _issues(words: str, issues: "tuple[RowIssue, ...]") -> Iterator[str]:
    if issues:
        yield f"{len(issues):,} rows {words}"
    for issue in issues[:LISTED]:
        yield f"    {issue}"
    if len(issues) > LISTED:
        yield f"    and {len(issues) - LISTED:,} more (all with --json)"


def _places(words: str, places: "Places") -> Iterator[str]:
    if places.count:
        yield f"{places.count:,} {words}"
    for group in places.rows[:LISTED]:
        yield f"    {_some(list(group), len(group))}"
    if places.count > LISTED:
        yield f"    and {places.count - LISTED:,} more"


def _some(rows: list[str], count: int) -> str:
    shown = ", ".join(rows[:LISTED])
    return shown if count <= LISTED else f"{shown} and {count - LISTED:,} more"


def _put_labels(found: "DataCheck") -> None:
    if not found.labels:
        return
    parts = list(next(iter(found.labels.values())))
    rows = [[label, *(f"{counts[part]:,}" for part in parts)] for label, counts in found.labels.items()]
    put_table("", ["label", *parts], rows)


def histogram(bins: "tuple[Bin, ...]") -> Iterator[str]:
    """Yield one line per bar."""
    most = max(bar.rows for bar in bins)
    for bar in bins:
        length = f"{bar.low:,}-{bar.high:,}" if bar.low != bar.high else f"{bar.low:,}"
        yield f"{length:>13}  {'#' * round(BAR * bar.rows / max(1, most)):<{BAR}} {bar.rows:,}"
