"""Questions about texts: the shapes they come in, and answers that do not stand where they should."""

import json
from pathlib import Path

import pytest

from luthier.data.formats.recognise import recognise
from luthier.data.formats.shape import Sample
from luthier.data.formats.squad import Squad
from luthier.data.rows import RowError
from luthier.data.sources.json_file import read_json
from luthier.data.spec import DataSpec
from luthier.examples.example import Quote

CONTEXT = "Zoë 😀 met Ada in Łódź. Ada left."
ADA = CONTEXT.index("Ada")
ROW = {"question": "Who?", "context": CONTEXT}
SHAPES = [
    {"answers": {"text": ["Ada", "Łódź"], "answer_start": [ADA, CONTEXT.index("Ł")]}},
    {"answers": [{"text": "Ada", "answer_start": ADA}, {"text": "Łódź", "answer_start": CONTEXT.index("Ł")}]},
    {"answer": "Ada", "answer_start": ADA},
    {"answer": "Ada", "answer_start": str(ADA)},
]


def read(row: dict, render: str = "text"):
    spec = DataSpec(path="x", render=render)
    shape = recognise(Sample((row,)), spec)
    assert isinstance(shape, Squad)
    return shape.read(row)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_gives_the_question_the_text_and_its_answers(shape: dict) -> None:
    example = read(ROW | shape)
    assert [segment.text for segment in example.segments] == ["Who?", CONTEXT] and example.is_judged
    assert example.quotes[0] == Quote(start=ADA, text="Ada")
    assert example.accepted == (("Ada", "Łódź") if "answers" in shape else ("Ada",))
    written = read(ROW | shape, "chat")
    assert written.accepted == example.accepted and written.answer == "Ada"
    assert CONTEXT in written.messages[0].content and "Who?" in written.messages[0].content


def test_no_answer() -> None:
    none = ROW | {"answers": {"text": [], "answer_start": []}}
    for row in (none, ROW | SHAPES[0] | {"is_impossible": True}):
        assert read(row).quotes == () and read(row).answer == ""
        assert read(row, "chat").answer == "no answer"


@pytest.mark.parametrize(
    ("shape", "pointer", "reason"),
    [
        ({"answers": {"text": ["Ada"], "answer_start": [3]}}, "/answers/answer_start/0", "it stands at 10, 23"),
        ({"answers": [{"text": "Bob", "answer_start": 0}]}, "/answers/0/answer_start", "the context does not hold it"),
        ({"answer": "Ada", "answer_start": -1}, "/answer_start", "not a character's number"),
        ({"answers": {"text": ["Ada"], "answer_start": []}}, "/answers", "as many `text` as `answer_start`"),
        ({"answers": {"text": [" "], "answer_start": [3]}}, "/answers/text/0", "not text"),
    ],
)
def test_a_wrong_answer_is_named_with_its_place(shape: dict, pointer: str, reason: str) -> None:
    with pytest.raises(RowError) as caught:
        read(ROW | shape)
    assert caught.value.pointer == pointer and reason in caught.value.reason


def test_the_nested_file_gives_a_row_for_each_question(tmp_path: Path) -> None:
    asked = [{"id": str(n), "question": f"Who {n}?", **SHAPES[1]} for n in range(3)]
    paragraphs = [{"context": CONTEXT, "qas": asked[:2]}, {"context": CONTEXT, "qas": asked[2:]}]
    articles = [{"title": "a", "paragraphs": paragraphs}, {"title": "b", "paragraphs": paragraphs[:1]}]
    (tmp_path / "train.json").write_text(json.dumps({"version": "1.1", "data": articles}))
    rows = list(read_json(tmp_path / "train.json", "train.json"))
    assert [row.row for row in rows] == [1, 2, 3, 4, 5]
    assert [row.value["question"] for row in rows] == ["Who 0?", "Who 1?", "Who 2?", "Who 0?", "Who 1?"]
    assert all(read(row.value).quotes[0].text == "Ada" for row in rows)
