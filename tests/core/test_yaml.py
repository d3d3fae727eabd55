from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.core.errors import RecipeError
from luthier.core.yaml import MAX_BYTES, parse_yaml, read_yaml, write_yaml

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1e-6", 1e-6),
        ("-.5", -0.5),
        ("010", 10),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("true", True),
        ("12:30:00", "12:30:00"),
        ("2020-01-01", "2020-01-01"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("null", None),
        ("~", None),
        ("'1'", "1"),
        ("<<", "<<"),
        ("9" * 401, float("inf")),
    ],
)
def test_words_mean_what_yaml_1_2_says(text: str, value: object) -> None:
    found = parse_yaml(f"a: {text}", name="x").value["a"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("a: 1\nb: &x 2", 2, "anchors and aliases"),
        ("a: *x", 1, "anchors and aliases"),
        ("a: !!python/object:os.system x", 1, "the tag"),
        ("a: !!str 1", 1, "the tag"),
        ("a: 1\nb: 2\na: 3", 3, "a second time (first in line 1)"),
        ("a:\n\tb: 1", 2, "cannot start any token"),
        ("a: [1, 2", 1, "expected"),
        ("1: 2", 1, "a key must be a word"),
        ("? [a]\n: b", 1, "a key must be a word"),
        ("[" * 50 + "]" * 50, 1, "levels deep"),
        ("{" * 50_000, 1, "levels deep"),
        ("--- 1\n--- 2", 2, "another document"),
    ],
)
def test_what_is_refused_is_told_with_its_line(text: str, line: int, why: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_yaml(text, name="x.yaml")
    assert caught.value.where == {"file": "x.yaml", "line": str(line)} and why in str(caught.value.why)


@pytest.mark.parametrize("data", [b"a: \xff", b"a: \x00", b"x" * (MAX_BYTES + 1)])
def test_bytes_that_are_no_recipe(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.yaml").write_bytes(data)
    with pytest.raises(RecipeError, match="cannot read the recipe"):
        read_yaml(tmp_path / "x.yaml")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(RecipeError, match=str(path)):
            read_yaml(path)


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml(tmp_path / "x.yaml").value == {"a": 1}


def test_lines_are_known_for_every_part() -> None:
    document = parse_yaml("a:\n  b: 1\n  c:\n  - x\n  - y\n", name="x")
    assert [document.line_of(path) for path in (("a", "b"), ("a", "c", 1), ("a", "d", "e"), ("z",))] == [2, 5, 1, None]


@given(st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        document = parse_yaml(text, name="x")
    except RecipeError as error:
        assert error.why
    else:
        assert document.lines is not None


@given(st.dictionaries(st.text(), VALUES, max_size=4))
@settings(max_examples=200, deadline=None)
def test_what_is_written_is_read_back(value: dict[str, object]) -> None:
    try:
        text = write_yaml(value)
    except RecipeError:
        # Half a character, or a key longer than YAML's keys may be, can be written but not read: it is refused.
        return
    assert parse_yaml(text, name="x").value == value


def test_comments_stand_at_the_end_of_their_lines() -> None:
    text = write_yaml({"a": {"b": "x\ny", "c": [1, 2]}, "d": [{"e": 1}]}, {("a", "b"): "because", ("a", "c"): "why"})
    assert [line.split("  # ")[-1] for line in text.splitlines() if "#" in line] == ["because", "why"]
    assert "- {e: 1}" in text and parse_yaml(text, name="x").value["a"] == {"b": "x\ny", "c": [1, 2]}
