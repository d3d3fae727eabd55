from luthier.cli.check import histogram
from luthier.cli.data import row_text
from luthier.data.check import Bin
from luthier.data.preview import Piece, PreviewRow
from luthier.data.rows import RowIssue


def test_trained_tokens_stand_between_marks() -> None:
    pieces = (Piece(text="ask ", target=False, tokens=2), Piece(text="answer", target=True, tokens=3))
    row = PreviewRow(file="a/rows.jsonl", row=4, pieces=pieces, tokens=5, too_long=True)
    assert (
        row_text(row, ("[[", "]]")) == "--- rows.jsonl:4  5 tokens, 3 trained, longer than a row may be\nask [[answer]]"
    )
    assert "not JSON" in row_text(RowIssue("rows.jsonl", 2, "not_json", "not JSON"), ("[[", "]]"))


def test_the_histogram_is_as_long_as_its_longest_bar() -> None:
    lines = list(histogram((Bin(low=1, high=9, rows=10), Bin(low=10, high=10, rows=5))))
    assert [line.count("#") for line in lines] == [40, 20] and lines[1].split()[0] == "10"
