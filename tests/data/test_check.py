"""The check counts what is wrong and names the rows, and keeps nothing."""

from pathlib import Path

from tests.data.made import labelled, questions, sentence, write_jsonl

from luthier.core.artifacts import Base
from luthier.core.events import Event
from luthier.data.room import check
from luthier.data.spec import DataSpec


def test_the_check_counts_everything_at_once(base: Base, tmp_path: Path, events: list[Event]) -> None:
    rows = labelled(60)
    rows += [rows[0], {**rows[1], "tone": "positive"}, {"phrase": rows[2]["phrase"].upper(), "tone": rows[2]["tone"]}]
    rows += [{"phrase": "x", "tone": None}, {"phrase": "word " * 2000, "tone": "neutral"}]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    before = set(tmp_path.rglob("*"))
    found = check(DataSpec(path=path), base, events.append, seed=7)
    assert set(tmp_path.rglob("*")) == before
    assert found.rows == 65
    assert [issue.row for issue in found.unreadable] == [64]
    assert (found.count("duplicate"), found.count("too_long"), found.count("leak")) == (1, 1, 0)
    assert found.near_duplicates.rows == ((f"{path}:3", f"{path}:63"),)
    assert found.conflicts.rows == ((f"{path}:2", f"{path}:62"),)
    assert {label: sum(counts.values()) for label, counts in found.labels.items()} == {
        "negative": 20,
        "neutral": 20,
        "positive": 22,
    }
    assert found.warnings() == [
        "1 row left out: unreadable",
        "1 row left out: the same as another",
        "1 row left out: too long",
        "1 prompt with several different answers",
    ]


def test_the_histogram_counts_every_length_once(base: Base, tmp_path: Path, events: list[Event]) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", questions(80))
    bins = check(DataSpec(path=path), base, events.append, seed=7).lengths
    assert sum(bar.rows for bar in bins) == 80
    assert all(one.high + 1 == other.low for one, other in zip(bins, bins[1:], strict=False))
    assert len(bins) <= 13
    assert bins[0].rows and bins[-1].rows


def test_a_check_of_rows_that_all_do_not_fit_is_a_result(base: Base, tmp_path: Path, events: list[Event]) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", questions(20))
    found = check(DataSpec(path=path, max_tokens=8), base, events.append, seed=7)
    assert found.count("too_long") == 20


def test_rare_labels_are_said(base: Base, tmp_path: Path, events: list[Event]) -> None:
    import random

    rows = [*labelled(60), {"phrase": sentence(random.Random(9)), "tone": "odd"}]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    warnings = check(DataSpec(path=path), base, events.append, seed=7).warnings()
    assert "fewer than 5 training rows have the label 'odd'" in warnings
