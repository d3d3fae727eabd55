"""Every field of the data's Specs changes the rows that training, validation and test get, or stops the run."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.data.made import labelled, write_jsonl
from tests.observed.seen import Cases, Change, unseen

from luthier.core.artifacts import Base
from luthier.core.events import Event
from luthier.data import room
from luthier.data.spec import DataSpec, SplitSpec
from luthier.examples.store import Split
from luthier.model.tiny import save_tiny

PARTS = ("train", "validation", "test")
SPLIT = SplitSpec(validation=0.2, test=0.2)
LONG = {"max_tokens": 170, "too_long": "drop"}
"""Some of the rows are longer."""
CASES: Cases = {
    DataSpec: {
        "path": "others.jsonl",
        "format": "text",
        "text_template": "{text} is {label}",
        "render": "text",
        "instruction": "Which tone?",
        "validation_path": "others.jsonl",
        "test_path": "others.jsonl",
        "split": SplitSpec(validation=0.4, test=0.2),
        "max_tokens": 170,
        "too_long": Change("cut", LONG),
        "near_duplicates": Change(1.0, {"path": "alike.jsonl"}),
        "unreadable_rows": Change("skip", {"path": "broken.jsonl"}),
        "repeats": Change("keep", {"path": "twice.jsonl"}),
    },
    SplitSpec: {"validation": 0.4, "test": 0.4},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return Base(name="tiny", folder=save_tiny(tmp_path_factory.mktemp("base"), "llama"), weights_sha256="0")


def write_rows(folder: Path) -> None:
    """Write rows, other rows, rows that are nearly alike, rows that stand there twice, and a broken one."""
    rows = [{"text": row["phrase"], "label": row["tone"]} for row in labelled(24)]
    write_jsonl(folder / "rows.jsonl", rows)
    write_jsonl(folder / "others.jsonl", [{"text": row["phrase"], "label": row["tone"]} for row in labelled(9, seed=1)])
    near = [row | {"text": f"{row['text']}{mark}"} for row in rows for mark in ("", " !")]
    write_jsonl(folder / "alike.jsonl", near)
    write_jsonl(folder / "twice.jsonl", [*rows, *rows[:6]])
    write_jsonl(folder / "broken.jsonl", [*rows, ["no", "row"]])


@pytest.fixture
def rows_of(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[DataSpec], dict[str, list[Any]]]:
    """Return what prepares the rows that lie in the present folder."""
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path)
    number = itertools.count()

    def prepared(spec: DataSpec) -> dict[str, list[Any]]:
        given = room.run(spec, base, tmp_path / str(next(number)), list[Event]().append, seed=7)
        splits = {part: Split(given.split(part)) for part in PARTS}
        return {part: [split.encoded(i) for i in range(len(split))] for part, split in splits.items()}

    return prepared


def test_every_field_of_the_data_is_seen_in_the_rows(rows_of) -> None:
    assert unseen(DataSpec, CASES[DataSpec], rows_of, path="rows.jsonl", split=SPLIT) == []


def test_every_share_is_seen_in_the_splits(rows_of) -> None:
    def parts_of(split: SplitSpec) -> dict[str, list[Any]]:
        return rows_of(DataSpec(path="rows.jsonl", split=split))

    assert unseen(SplitSpec, CASES[SplitSpec], parts_of) == []
