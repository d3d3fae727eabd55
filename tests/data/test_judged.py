"""Rows for heads: several labels, numbers, entities by spans, by tokens and in CoNLL files; faults with their line."""

import json
from pathlib import Path

import pytest

from luthier.core.errors import DataError
from luthier.data.opened import open_data
from luthier.data.rows import RowIssue
from luthier.data.spec import DataSpec
from luthier.examples.example import Example


def opened(folder: Path, *rows: object, name: str = "rows.jsonl", **options):
    path = folder / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return open_data(DataSpec(path=str(path), **({"render": "text"} | options)))


def read(folder: Path, *rows: object, **options) -> list[Example | RowIssue]:
    return list(opened(folder, *rows, **options).examples("train"))


def issue(folder: Path, *rows: object, **options) -> RowIssue:
    return next(one for one in read(folder, *rows, **options) if isinstance(one, RowIssue))


def test_labelled_text_stands_alone_for_a_head(tmp_path: Path) -> None:
    first, *_ = read(tmp_path, *({"text": f"row {i}", "label": "ab"[i % 2]} for i in range(6)))
    assert first.text == "row 0" and first.label == "a" and first.is_judged and not first.messages
    assert first.answer == "a" and first.context is not None and first.context.text == "row 0"


def test_several_labels_are_sorted_and_may_be_none(tmp_path: Path) -> None:
    rows = read(tmp_path, {"text": "x", "labels": ["b", "a"]}, {"text": "y", "labels": []})
    assert [row.labels for row in rows] == [("a", "b"), ()]
    assert "twice" in issue(tmp_path, {"text": "x", "labels": ["a"]}, {"text": "y", "labels": ["a", "a"]}).reason
    assert (
        "missing" in issue(tmp_path, {"text": "x", "labels": ["a"]}, {"text": "y", "labels": []}, {"text": "z"}).reason
    )


def test_numbers_are_asked_for_by_name(tmp_path: Path) -> None:
    rows = [{"text": "x", "score": 3}, {"text": "y", "score": -0.5}, {"text": "z", "score": "high"}]
    found = read(tmp_path, *rows, format="scored")
    assert [row.score for row in found[:2]] == [3.0, -0.5]
    assert found[2].row == 3 and "not a number" in found[2].reason and found[2].pointer == "/score"
    with pytest.raises(DataError, match="scored"):
        opened(tmp_path, *({"text": f"a {i}", "score": i / 7} for i in range(9)))


def test_spans_are_read_in_order(tmp_path: Path) -> None:
    spans = [{"start": 8, "end": 11, "label": "PER"}, {"start": 0, "end": 3, "label": "PER"}]
    (row,) = read(tmp_path, {"text": "Ada met Bob", "entities": spans})
    assert [row.text[one.start : one.end] for one in row.spans] == ["Ada", "Bob"]


@pytest.mark.parametrize(
    ("span", "reason", "pointer"),
    [
        ({"start": 0, "end": 12, "label": "X"}, "no piece of a text of 11 characters", "/spans/1"),
        ({"start": 3, "end": 3, "label": "X"}, "no piece", "/spans/1"),
        ({"start": "0", "end": 3, "label": "X"}, "not a character's number", "/spans/1/start"),
        ({"start": 5, "end": 7}, "not a label", "/spans/1/label"),
        ("Ada", "not an object", "/spans/1"),
        ({"start": 2, "end": 5, "label": "ORG"}, "overlap: PER 0\u20133 and ORG 2\u20135", "/spans"),
    ],
)
def test_a_wrong_span_is_named(tmp_path: Path, span: object, reason: str, pointer: str) -> None:
    whole = {"text": "Ada met Bob", "spans": [{"start": 0, "end": 3, "label": "PER"}]}
    found = issue(tmp_path, whole, whole | {"spans": [*whole["spans"], span]})
    assert found.row == 2 and reason in found.reason and found.pointer == pointer


def test_tokens_with_tags(tmp_path: Path) -> None:
    row = {"tokens": ["New", "York", "is", "big"], "ner_tags": ["B-LOC", "I-LOC", "O", "O"]}
    first, *_ = read(tmp_path, row)
    assert first.text == "New York is big" and [(s.start, s.end, s.label) for s in first.spans] == [(0, 8, "LOC")]
    numbers = issue(tmp_path, row, row | {"ner_tags": [1, 2, 0, 0]})
    assert "write `B-PER`" in numbers.reason and numbers.pointer == "/ner_tags/0"
    assert "4 tokens, but 1 tags" in issue(tmp_path, row, row | {"ner_tags": ["O"]}).reason


CONLL = """-DOCSTART- -X- O O

EU NNP I-ORG
rejects VBZ O

Peter NNP B-PER
Blackburn NNP E-PER
"""


def test_conll_files_are_known_by_their_name(tmp_path: Path) -> None:
    found = read(tmp_path, CONLL, name="train.conll", render="auto")
    assert [(row.row, row.text, [(s.label, s.start, s.end) for s in row.spans]) for row in found] == [
        (3, "EU rejects", [("ORG", 0, 2)]),
        (6, "Peter Blackburn", [("PER", 0, 15)]),
    ]


def test_a_fault_in_a_conll_file_names_its_own_line(tmp_path: Path) -> None:
    found = read(tmp_path, CONLL + "\nword\nother O\n\nlast PER\n", name="train.bio")
    faults = [(one.row, one.reason) for one in found if isinstance(one, RowIssue)]
    assert [row for row, _ in faults] == [9, 12]
    assert "its tag" in faults[0][1] and "`PER` is not a tag" in faults[1][1]
    assert sum(isinstance(one, Example) for one in found) == 2


def test_a_head_refuses_conversations(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    with pytest.raises(DataError) as caught:
        opened(tmp_path, row, format="chat")
    assert "a head learns from" in str(caught.value) and "data.format" in str(caught.value)
