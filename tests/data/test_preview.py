"""The preview shows the text the model sees and marks what is trained."""

from pathlib import Path

from tests.data.made import write_jsonl

from luthier.core.artifacts import Base
from luthier.data.preview import PreviewRow, preview
from luthier.data.rows import RowIssue
from luthier.data.spec import DataSpec


def test_rows_are_shown_with_special_tokens_and_targets(base: Base, tmp_path: Path) -> None:
    rows = [
        {"prompt": "Grüße 🎻", "completion": "naïve 🎻"},
        {"prompt": 5, "completion": "x"},
        {"prompt": "p", "completion": "c"},
    ]
    path = write_jsonl(tmp_path / "rows.jsonl", [rows[0], rows[0], *rows])
    shown = preview(DataSpec(path=path), base, rows=4)
    assert len(shown) == 4
    first, bad = shown[0], shown[3]
    assert isinstance(first, PreviewRow) and isinstance(bad, RowIssue)
    system = "<|im_start|>system\nYou are tiny.<|im_end|>\n"
    assert [(piece.text, piece.target) for piece in first.pieces] == [
        (f"{system}<|im_start|>user\nGrüße 🎻<|im_end|>\n<|im_start|>assistant\n", False),
        ("naïve 🎻<|im_end|>", True),
    ]
    assert sum(piece.tokens for piece in first.pieces) == first.tokens
    assert (first.row, first.too_long, bad.pointer) == (1, False, "/prompt")


def test_too_long_rows_are_marked(base: Base, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "p", "completion": "c"}])
    (shown,) = preview(DataSpec(path=path, max_tokens=10), base)
    assert shown.too_long
