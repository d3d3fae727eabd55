"""A look finds the facts of a plan, as far as it is told to read."""

from pathlib import Path

import pytest
from tests.data.made import TONES, labelled, questions, write_jsonl

from luthier.core.artifacts import Base
from luthier.data.look import look
from luthier.data.opened import open_data
from luthier.data.spec import DataSpec
from luthier.examples.example import Example
from luthier.examples.store import Encoded
from luthier.model.load import load_tokenizer
from luthier.model.template import Template


def test_a_look_at_labelled_rows(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [{**row, "text": None} for row in labelled(30)])
    facts = look(DataSpec(path=path))
    assert (facts.format, facts.answer_kind, facts.labels) == ("labelled", "closed", TONES)
    opened = open_data(DataSpec(path=path))
    assert opened.because == "labelled, from the columns `phrase`, `tone`" and opened.unused == ["text"]
    assert (facts.rows, facts.complete) == ({"train": 30, "validation": 0, "test": 0}, True)
    assert facts.mean_tokens is None


def test_a_look_is_limited_and_says_so(tmp_path: Path) -> None:
    rows = questions(30)
    path = write_jsonl(tmp_path / "rows.jsonl", [*rows[:5], {"prompt": 1, "completion": "x"}, *rows[5:]])
    facts = look(DataSpec(path=path), limit=10)
    assert (facts.rows["train"], facts.complete) == (9, False)


def test_a_look_counts_tokens_with_a_template(base: Base, tmp_path: Path) -> None:
    rows = questions(8)
    template = Template(load_tokenizer(base.folder))
    facts = look(DataSpec(path=write_jsonl(tmp_path / "rows.jsonl", rows)), encode=template.encode)
    assert facts.mean_tokens and facts.longest_tokens and facts.longest_answer_tokens
    assert facts.longest_answer_tokens < facts.mean_tokens <= facts.longest_tokens


def test_tokens_are_counted_of_the_first_rows_only(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier.data.look.ENCODED_ROWS", 3)
    seen: list[Example] = []
    template = Template(load_tokenizer(base.folder))

    def encode(example: Example) -> Encoded:
        seen.append(example)
        return template.encode(example)

    facts = look(DataSpec(path=write_jsonl(tmp_path / "rows.jsonl", questions(8))), encode=encode)
    assert (len(seen), facts.rows["train"], facts.complete) == (3, 8, False)
