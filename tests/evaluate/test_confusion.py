"""Confusion tables are laid out with the diagonal in place and shares by row."""

from luthier.core.artifacts import SystemResult
from luthier.evaluate.confusion import confusion_table


def system(confusion: dict[str, dict[str, int]]) -> SystemResult:
    return SystemResult(name="tuned", metrics={}, prompt_tokens=1, latency_s=1, stops_share=1, confusion=confusion)


def test_columns_begin_with_the_true_labels_and_end_with_other() -> None:
    table = confusion_table(system({"b": {"b": 3, "(other)": 1}, "a": {"z": 2, "b": 2}}))
    assert table.columns == ["b", "a", "z", "(other)"]
    assert [[cell.count for cell in cells] for _, cells in table.rows] == [[3, 0, 0, 1], [2, 0, 2, 0]]
    assert [[cell.right for cell in cells] for _, cells in table.rows] == [
        [True, *[False] * 3],
        [False, True, False, False],
    ]
    assert [cell.share for cell in table.rows[0][1]] == [0.75, 0, 0, 0.25]


def test_open_answers_have_none() -> None:
    assert confusion_table(system({})) is None
