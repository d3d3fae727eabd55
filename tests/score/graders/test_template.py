"""Variables in a grader's texts."""

import time

import pytest

from luthier.score.graders.grade import sample_of
from luthier.score.graders.graded import GradingError
from luthier.score.graders.template import filled, look_up

CALL = {"id": "call_1", "type": "function", "function": {"name": "search", "arguments": '{"q": "x"}'}}
SAMPLE = sample_of('{"answer": "yes", "list": [1, {"k": "v"}]}', message={"tool_calls": [CALL]})
SCOPE = {
    "item": {
        "text": "hi",
        "number": 3,
        "float": 0.5,
        "none": None,
        "yes": True,
        "a b": 1,
        "deep": {"list": [["x", "y"]]},
    },
    "sample": SAMPLE,
}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("plain", "plain"),
        ("{{ item.text }}!", "hi!"),
        ("{{item.text}}{{ item.number }}", "hi3"),
        ("{{ item.float }} {{ item.none }} {{ item.yes }}", "0.5 null true"),
        ("{{ item.deep.list[0][1] }}{{ item.deep.list.0.0 }}", "yx"),
        ('{{ item["a b"] }}', "1"),
        ("{{ item.deep }}", '{"list": [["x", "y"]]}'),
        ("{{ sample.output_json.answer }} {{ sample.output_json.list[1].k }}", "yes v"),
        ("{{ sample.output_tools[0].function.name }}", "search"),
        ("{{ sample.choices[0].message.role }}", "assistant"),
        ("{{ sample.output_text }}", SAMPLE["output_text"]),
        ("{ item.text } {{ }", "{ item.text } {{ }"),
    ],
)
def test_variables_are_put_in(text: str, wanted: str) -> None:
    assert filled(text, SCOPE) == wanted


@pytest.mark.parametrize(
    "path",
    [
        "item.gone",
        "item.text.more",
        "item.text[0]",
        "item.deep.list[5]",
        "gone",
        "item text",
        "item..text",
        ".item",
        "",
        "item.text | upper",
        "item.__class__",
        "config.items()",
        "7*7",
        "sample.output_tools.name",
        "item[-1]",
    ],
)
def test_unknown_variables_are_told(path: str) -> None:
    with pytest.raises(GradingError) as refused:
        filled("{{ " + path + " }}", SCOPE)
    assert refused.value.flag == "invalid_variable_error"


def test_an_answer_that_is_no_json_is_told() -> None:
    with pytest.raises(GradingError) as refused:
        look_up("sample.output_json.answer", {"item": {}, "sample": sample_of("no JSON")})
    assert refused.value.flag == "sample_parse_error"


def test_values_are_not_templates() -> None:
    assert filled("{{ item.x }}", {"item": {"x": "{{ item.x }}"}, "sample": {}}) == "{{ item.x }}"


def test_a_long_row_named_often_is_refused() -> None:
    with pytest.raises(GradingError) as refused:
        filled("{{ item.x }}" * 10_000, {"item": {"x": "y" * 100_000}, "sample": {}})
    assert refused.value.flag == "other_error"


def test_many_braces_take_no_time() -> None:
    begin = time.perf_counter()
    assert filled("{{" * 400_000, SCOPE) == "{{" * 400_000
    assert time.perf_counter() - begin < 2
