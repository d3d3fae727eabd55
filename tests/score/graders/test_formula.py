"""The formula of a multi grader: arithmetic and nothing else."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.score.graders.formula import formula_of
from luthier.score.graders.graded import GradingError

REWARDS = {"a": 0.5, "b": 2.0, "c_1": -1.0}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a", 0.5),
        ("a + b * 2 - c_1 / 4", 4.75),
        ("2 ^ b + 1", 5.0),
        ("2 ^ 3 ^ 2", 512.0),
        ("-2 ^ 2", -4.0),
        ("(a + b) / 2", 1.25),
        ("min(a, b, 0.1) + max(a, b)", 2.1),
        ("abs(c_1) + floor(1.9) + ceil(0.1)", 3.0),
        ("exp(0) + sqrt(4) + log(1)", 3.0),
        ("  0.5*(a+b)\n", 1.25),
        ("1e3 * a", 500.0),
    ],
)
def test_arithmetic(text: str, value: float) -> None:
    assert math.isclose(formula_of(text, set(REWARDS))(REWARDS), value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a +",
        "gone * 2",
        "__import__('os').system('true')",
        "a.__class__",
        "(lambda: 1)()",
        "[a][0]",
        "a if b else c_1",
        "a or b",
        "a < b",
        "a % b",
        "a // b",
        "'x'",
        "True",
        "1j",
        "min(a)",
        "sqrt(a, b)",
        "max(*[1, 2])",
        "log(a, base=2)",
        "print(a)",
        "f'{a}'",
        "(a := 1)",
        "a; b",
        "\0",
        "9" * 400,
        "(" * 300 + "1" + ")" * 300,
        "-" * 1000 + "1",
        "+".join("1" * 400),
        "1" + "^1" * 200,
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(GradingError) as refused:
        formula_of(text, set(REWARDS))
    assert refused.value.flag == "formula_parse_error"


@pytest.mark.parametrize(
    "text", ["1 / 0", "log(0)", "sqrt(c_1)", "c_1 ^ 0.5", "exp(1000)", "9 ^ 9 ^ 9 ^ 9", "1e200 * 1e200"]
)
def test_what_has_no_value_is_told(text: str) -> None:
    with pytest.raises(GradingError) as refused:
        formula_of(text, set(REWARDS))(REWARDS)
    assert refused.value.flag == "other_error"


@given(st.text(alphabet="ab+-*/^(),. 019minmaxlogsqrt_'\"[]{}=<>:;\n", max_size=60))
def test_any_text_is_a_number_or_refused(text: str) -> None:
    try:
        value = formula_of(text, set(REWARDS))(REWARDS)
    except GradingError:
        return
    assert math.isfinite(value)
