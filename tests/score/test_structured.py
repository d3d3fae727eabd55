"""JSON validity and field-F1."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.core.errors import DataError
from luthier.score import structured
from luthier.score.metrics import score

REFERENCE = '{"name": "Ada", "age": 36, "tags": ["x", "y"], "address": {"city": "London"}}'


@pytest.mark.parametrize(
    ("answer", "valid"),
    [
        ('{"a": 1}', 1),
        (' {"a": 1}\n', 1),
        ('```json\n{"a": 1}\n```', 0),
        ("[1]", 0),
        ('{"a": NaN}', 0),
        ('{"a": 1} and more', 0),
        ("", 0),
        ('{"a": ' + "9" * 5000 + "}", 0),
        ("[" * 100_000, 0),
        ('{"a":' * 20_000, 0),
    ],
)
def test_json_valid(answer: str, valid: float) -> None:
    assert structured.json_valid(answer, "{}") == valid


@pytest.mark.parametrize(
    ("answer", "f1"),
    [
        (REFERENCE, 1),
        (f"Sure! ```json\n{REFERENCE}\n```", 1),
        ('{"name": "Ada"}', 2 * 1 / (1 + 5)),
        ('{"name": "Bob", "age": 36.0}', 2 * 1 / (2 + 5)),
        ('{"tags": ["y", "x"]}', 0),
        ('{"city": "London"}', 0),
        ("{broken} then " + REFERENCE, 1),
        ("nothing", 0),
    ],
)
def test_field_f1_counts_paths_with_their_values(answer: str, f1: float) -> None:
    assert structured.field_f1(answer, REFERENCE) == pytest.approx(f1)


def test_look_alikes_are_different_fields() -> None:
    kinds = ["true", "1", '"1"', "null", '"null"', "{}", '"{}"', "[]", "false", "0"]
    for one in kinds:
        for other in kinds:
            assert structured.field_f1(f'{{"a": {one}}}', f'{{"a": {other}}}') == float(one == other)


def test_empty_objects_are_equal() -> None:
    assert structured.field_f1("{}", "{}") == 1
    assert structured.field_f1('{"a": 1}', "{}") == 0


def test_a_reference_that_is_no_object_is_refused() -> None:
    with pytest.raises(DataError, match="JSON objects"):
        score("field_f1", ["{}"], ["plain"])


json_objects = st.dictionaries(
    st.text(max_size=3),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(json_objects, json_objects)
def test_field_f1_is_symmetric_and_perfect_on_itself(one: dict[str, object], other: dict[str, object]) -> None:
    import json

    a, b = json.dumps(one), json.dumps(other)
    assert structured.field_f1(a, a) == 1
    assert structured.field_f1(a, b) == structured.field_f1(b, a)
    assert 0 <= structured.field_f1(a, b) <= 1
