"""Every format: what it is recognised by, what a row becomes, and what is wrong with a bad one."""

import json
from typing import Any

import pytest
from tests.data.made import labelled

from luthier.core.errors import DataError
from luthier.data.formats.recognise import FORMATS, recognise, unused_columns
from luthier.data.formats.shape import Sample
from luthier.data.rows import RowError, Value
from luthier.data.spec import DataSpec
from luthier.examples.example import Example
from luthier.train.spec import JUDGED

USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


def spec(**fields: Any) -> DataSpec:
    return DataSpec(path="rows.jsonl", **fields)


def read(*rows: Value, **fields: Any) -> list[Example]:
    shape = recognise(Sample(rows), spec(**fields))
    return [shape.read(row) for row in rows]


def said(example: Example) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in example.messages]


def error(row: Value, **fields: Any) -> RowError:
    """Return what is wrong with one row among good ones of its shape."""
    good = {"chat": {"messages": [USER, ANSWER]}, "prompt_completion": {"prompt": "p", "completion": "c"}}
    good |= {"alpaca": {"instruction": "i", "output": "o"}, "input_output": {"input": "i", "output": "o"}}
    good |= {"sharegpt": {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}}
    good |= {
        "labelled": {"text": "a fine day", "label": "good"},
        "text": {"text": "Once"},
        "templated": {"q": "a", "a": "b"},
        "preference": {"prompt": "p", "chosen": "a", "rejected": "b"},
    }
    shape = recognise(Sample((good[fields["format"]],) * 4), spec(**fields))
    with pytest.raises(RowError) as caught:
        shape.read(row)
    return caught.value


ROWS: dict[str, Value] = {
    "chat": {"messages": [USER, ANSWER]},
    "prompt_completion": {"prompt": "Hi", "completion": "Hello"},
    "alpaca": {"instruction": "Hi", "input": "", "output": "Hello"},
    "sharegpt": {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
    "input_output": {"input": "Hi", "output": "Hello"},
}
OTHER = {"role": "assistant", "content": "Hm"}
PAIRS: dict[str, dict[str, Any]] = {
    "openai": {"input": {"messages": [USER]}, "preferred_output": [ANSWER], "non_preferred_output": [OTHER]},
    "openai, older": {
        "input": {"messages": [USER]},
        "preferred_completion": [ANSWER],
        "non_preferred_completion": [OTHER],
    },
    "text": {"prompt": "Hi", "chosen": "Hello", "rejected": "Hm"},
    "messages": {"prompt": [USER], "chosen": [ANSWER], "rejected": [OTHER]},
    "whole conversations": {"chosen": [USER, ANSWER], "rejected": [USER, OTHER]},
    "whole conversations and the prompt": {"prompt": "Hi", "chosen": [USER, ANSWER], "rejected": [USER, OTHER]},
    "mixed": {"prompt": [USER], "chosen": [ANSWER], "rejected": "Hm"},
}


@pytest.mark.parametrize("name", ROWS)
def test_formats_of_conversations_are_recognised_and_say_the_same(name: str) -> None:
    row = ROWS[name]
    assert recognise(Sample((row,)), spec()).name == name
    assert recognise(Sample((row,)), spec(format=name)).name == name
    assert [said(example) for example in read(row)] == [[("user", "Hi"), ("assistant", "Hello")]]


def test_all_formats_are_in_the_union() -> None:
    others = {"preference", "squad", "templated", "labelled", "text"}
    assert {kind.name for kind in FORMATS} == set(ROWS) | others | {*JUDGED}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_are_recognised_and_say_the_same(name: str) -> None:
    row = PAIRS[name]
    assert recognise(Sample((row,)), spec()).name == recognise(Sample((row,)), spec(format="preference")).name
    (example,) = read(row)
    assert said(example) == [("user", "Hi"), ("assistant", "Hello")]
    assert (example.rejected.role, example.rejected.content) == ("assistant", "Hm")
    assert said(example.with_rejected) == [("user", "Hi"), ("assistant", "Hm")]
    assert example.with_rejected.rejected is example.context.rejected is None


def test_pairs_keep_tools_and_train_only_the_answers() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    before = [{"role": "system", "content": "Be brief."}, USER, {**ANSWER, "content": "Yes?"}, USER]
    row = {"input": {"messages": before, "tools": [TOOL], "parallel_tool_calls": True}}
    (example,) = read(row | {"preferred_output": [{**call, "weight": 0}], "non_preferred_output": [OTHER]})
    assert example.tools == (TOOL,) and example.messages[-1].tool_calls == (CALL,)
    assert [m.weight for m in example.messages if m.role == "assistant"] == [0, 1]
    assert example.rejected.weight == 1


@pytest.mark.parametrize(
    ("row", "pointer", "says"),
    [
        ({"chosen": "a", "rejected": "b"}, "/prompt", "no prompt"),
        ({"prompt": "p", "chosen": "a", "rejected": None}, "/rejected", "no `rejected`"),
        ({"prompt": "p", "chosen": "a", "rejected": " "}, "/rejected", "empty"),
        ({"prompt": 5, "chosen": "a", "rejected": "b"}, "/prompt", "not text"),
        ({"prompt": [], "chosen": "a", "rejected": "b"}, "/prompt", "no prompt"),
        ({"prompt": "p", "chosen": [], "rejected": "b"}, "/chosen", "not an assistant"),
        ({"prompt": "p", "chosen": [USER], "rejected": "b"}, "/chosen", "not an assistant"),
        ({"prompt": "p", "chosen": [ANSWER, ANSWER], "rejected": "b"}, "/chosen", "more than one"),
        ({"prompt": "p", "chosen": [{**ANSWER, "content": ""}], "rejected": "b"}, "/chosen/0/content", "empty"),
        ({"chosen": [USER, ANSWER], "rejected": [ANSWER]}, "/rejected", "differ"),
        ({"prompt": "Ho", "chosen": [USER, ANSWER], "rejected": [USER, OTHER]}, "/prompt", "not what"),
    ],
)
def test_bad_pairs_point_at_the_place(row: dict[str, Any], pointer: str, says: str) -> None:
    found = error(row, format="preference")
    assert found.pointer == pointer and says in found.reason


def test_bad_openai_pairs_point_into_the_input() -> None:
    good = PAIRS["openai"]
    shape = recognise(Sample((good,)), spec())
    bad = {"": "hi", "/messages": {}, "/messages/0/role": {"messages": [{"role": "bot", "content": "x"}]}}
    for pointer, given in bad.items():
        with pytest.raises(RowError) as caught:
            shape.read(good | {"input": given})
        assert caught.value.pointer == f"/input{pointer}"


def test_chat_keeps_tools_weights_names_and_parts() -> None:
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]},
        {**USER, "name": "Ann"},
        {"role": "assistant", "content": None, "tool_calls": [CALL], "weight": 0},
        {"role": "tool", "content": "2", "tool_call_id": "1"},
        {**ANSWER, "weight": 1},
    ]
    (example,) = read({"messages": messages, "tools": [TOOL]})
    assert said(example)[0] == ("developer", "Be brief.")
    assert [message.weight for message in example.messages if message.role == "assistant"] == [0, 1]
    assert example.messages[2].tool_calls == (CALL,)
    assert (example.messages[1].name, example.messages[3].tool_call_id) == ("Ann", "1")
    assert example.tools == (TOOL,)


@pytest.mark.parametrize(
    ("messages", "pointer", "says"),
    [
        ([], "/messages", "no assistant"),
        ([USER], "/messages", "no assistant"),
        ("hi", "/messages", "not a list"),
        (["hi"], "/messages/0", "not an object"),
        ([{"role": "bot", "content": "x"}], "/messages/0/role", "'bot'"),
        ([{"role": ["user"], "content": "x"}], "/messages/0/role", "not one of"),
        ([{"content": "x"}], "/messages/0/role", "None"),
        ([{"role": "function", "content": "x"}], "/messages/0/role", "`tool`"),
        ([USER, {"role": "assistant", "content": None}], "/messages/1/content", "no content"),
        ([USER, {"role": "assistant", "content": ""}], "/messages/1/content", "empty"),
        ([USER, {"role": "assistant", "content": 5}], "/messages/1/content", "neither text"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "/messages/0/content/0", "only parts"),
        ([USER, {**ANSWER, "weight": 2}], "/messages/1/weight", "neither 0 nor 1"),
        ([USER, {**ANSWER, "weight": True}], "/messages/1/weight", "neither 0 nor 1"),
        ([USER, {**ANSWER, "weight": []}], "/messages/1/weight", "neither 0 nor 1"),
        ([{**USER, "weight": 1}, ANSWER], "/messages/0/weight", "only assistant"),
        ([{**USER, "tool_calls": [CALL]}, ANSWER], "/messages/0/tool_calls", "only assistant"),
        ([USER, {"role": "assistant", "tool_calls": [{"id": 1}]}], "/messages/1/tool_calls/0", "function.name"),
        ([USER, {"role": "assistant", "tool_calls": 5}], "/messages/1/tool_calls", "not a list"),
        ([USER, {"role": "assistant", "content": None, "function_call": {}}], "/messages/1/function_call", "old form"),
        ([USER, {**ANSWER, "refusal": "no"}], "/messages/1/refusal", "cannot be trained"),
        ([{**USER, "name": 5}, ANSWER], "/messages/0/name", "not text"),
    ],
)
def test_bad_chat_rows_point_at_the_place(messages: object, pointer: str, says: str) -> None:
    found = error({"messages": messages}, format="chat")
    assert found.pointer == pointer
    assert says in found.reason


def test_old_functions_are_refused() -> None:
    assert "tools" in error({"messages": [USER, ANSWER], "functions": [{}]}, format="chat").reason


def test_prompt_and_completion_may_be_messages_and_only_the_completion_is_trained() -> None:
    (example,) = read({"prompt": [USER, ANSWER, USER], "completion": [ANSWER]})
    assert [message.weight for message in example.messages if message.role == "assistant"] == [0, 1]


def test_alpaca_puts_the_input_below_the_instruction() -> None:
    (example,) = read({"instruction": "Add.", "input": "1 and 2", "output": "3"})
    assert said(example)[0] == ("user", "Add.\n\n1 and 2")


def test_sharegpt_has_a_system_column_and_other_spellings() -> None:
    turns = [{"from": "user", "value": "Hi"}, {"from": "chatgpt", "value": "Hello"}]
    (example,) = read({"system": "Be kind.", "conversations": turns})
    assert said(example)[0] == ("system", "Be kind.")
    (example,) = read({"conversations": [USER, ANSWER]})
    assert said(example)[1] == ("assistant", "Hello")


@pytest.mark.parametrize(
    ("row", "pointer"),
    [
        ({"conversations": [{"from": "alien", "value": "x"}]}, "/conversations/0/from"),
        ({"conversations": [{"from": {}, "value": "x"}]}, "/conversations/0/from"),
        ({"conversations": [{"from": "gpt", "value": None}]}, "/conversations/0/value"),
        ({"conversations": [{"from": "gpt", "value": "x", "weight": "1"}]}, "/conversations/0/weight"),
        ({"conversations": [{"from": "human", "value": "x"}]}, "/conversations"),
        ({"other": 1}, "/conversations"),
        ("text", ""),
    ],
)
def test_bad_sharegpt_rows_point_at_the_place(row: Value, pointer: str) -> None:
    assert error(row, format="sharegpt").pointer == pointer


@pytest.mark.parametrize(
    ("name", "row", "pointer"),
    [
        ("prompt_completion", {"prompt": "p"}, "/completion"),
        ("prompt_completion", {"prompt": [], "completion": "c"}, "/prompt"),
        ("prompt_completion", {"prompt": "p", "completion": " "}, "/completion"),
        ("prompt_completion", {"prompt": 5, "completion": "c"}, "/prompt"),
        ("alpaca", {"instruction": "i", "input": 5, "output": "o"}, "/input"),
        ("alpaca", {"instruction": "i", "output": None}, "/output"),
        ("input_output", {"input": "", "output": "o"}, "/input"),
        ("text", {"text": 5}, "/text"),
        ("text", "  ", ""),
        ("labelled", {"text": "a", "label": None}, "/label"),
        ("labelled", {"text": "a", "label": "two\nlines"}, "/label"),
        ("labelled", {"text": "a", "label": 1.5}, "/label"),
        ("labelled", {"text": "", "label": "good"}, "/text"),
    ],
)
def test_bad_rows_point_at_the_column(name: str, row: Value, pointer: str) -> None:
    assert error(row, format=name).pointer == pointer


def segments(example: Example) -> list[tuple[str, bool]]:
    return [(segment.text, segment.target) for segment in example.segments]


def test_loss_falls_on_the_last_field_of_a_template_and_what_follows() -> None:
    (example,) = read({"q": "Why {x}?", "n": 3}, text_template="{{Q}}: {q}\nA: {n}.\nEnd")
    assert segments(example) == [("{Q}: Why {x}?\nA: ", False), ("3.\nEnd", True)]
    (example,) = read({"q": "all"}, text_template="{q}!")
    assert segments(example) == [("all!", True)]


@pytest.mark.parametrize(
    ("template", "says"),
    [("{q} {nope}", "`nope`"), ("{q", "character 1"), ("plain", "no field"), ("{q} }", "stands alone")],
)
def test_a_wrong_template_is_an_error(template: str, says: str) -> None:
    with pytest.raises(DataError) as caught:
        read({"q": "x"}, text_template=template)
    assert says in str(caught.value)
    assert "data.text_template" in str(caught.value)


@pytest.mark.parametrize("row", [{"q": "x"}, {"q": "x", "a": ["list"]}, {"q": "x", "a": " "}])
def test_a_template_needs_a_value_for_each_field(row: Value) -> None:
    assert error(row, format="templated", text_template="{q} {a}").pointer == "/a"


def test_labelled_text_is_recognised_by_two_columns_of_any_name() -> None:
    rows = tuple({"a": row["phrase"], "b": row["tone"]} for row in labelled(12))
    shape = recognise(Sample(rows), spec())
    assert (shape.name, shape.columns) == ("labelled", ("a", "b"))


def test_labelled_text_is_recognised_by_known_names_beside_others() -> None:
    rows = tuple({"id": str(n), "text": r["phrase"], "label": n % 2, "extra": n} for n, r in enumerate(labelled(12)))
    shape = recognise(Sample(rows), spec())
    assert shape.columns == ("text", "label")
    assert unused_columns(Sample(rows), shape) == ["id", "extra"]
    assert shape.read(rows[1]).label == "1"


def test_labelled_text_becomes_an_instruction_with_all_labels() -> None:
    rows = tuple({"text": row["phrase"], "label": f" {row['tone']}"} for row in labelled(6))
    shape = recognise(Sample(rows), spec())
    told = type(shape)(shape.text, shape.label, None, ("negative", "neutral", "positive")).read(rows[0])
    question = f"Classify the text. Answer with one of: negative, neutral, positive.\n\n{rows[0]['text']}"
    assert said(told) == [("user", question), ("assistant", "negative")]
    own = recognise(Sample(rows), spec(instruction="What tone?")).read(rows[0])
    assert said(own)[0] == ("user", f"What tone?\n\n{rows[0]['text']}")


def test_answers_that_do_not_recur_are_no_labels() -> None:
    rows = tuple({"a": f"question {n}", "b": f"answer {n}"} for n in range(10))
    with pytest.raises(DataError):
        recognise(Sample(rows), spec())
    assert recognise(Sample(tuple({"text": "x", "label": str(n)} for n in range(10))), spec(format="labelled"))


def test_plain_text_is_all_target() -> None:
    assert segments(read({"text": "Once", "id": 1})[0]) == [("Once", True)]
    assert segments(read("Once upon")[0]) == [("Once upon", True)]


def test_an_unknown_shape_lists_columns_formats_and_a_close_name() -> None:
    with pytest.raises(DataError) as caught:
        recognise(Sample(({"mesages": [], "id": 1},)), spec())
    text = str(caught.value)
    assert "`mesages`, `id`" in text
    assert "did you mean `messages`" in text
    assert all(kind.needs in text for kind in FORMATS)


def test_a_named_format_must_fit() -> None:
    with pytest.raises(DataError, match="do not have the shape `alpaca`"):
        recognise(Sample(({"messages": []},)), spec(format="alpaca"))


def test_an_unknown_format_names_a_close_one() -> None:
    with pytest.raises(DataError) as caught:
        recognise(Sample(({"messages": []},)), spec(format="alpacca"))
    assert "did you mean `alpaca`" in str(caught.value)


@pytest.mark.parametrize("fields", [{"instruction": "Say."}, {"text_template": "{x}", "format": "chat"}])
def test_a_field_that_would_not_be_used_is_an_error(fields: dict[str, str]) -> None:
    with pytest.raises(DataError, match="would not be used"):
        recognise(Sample(({"messages": [USER, ANSWER], "x": "y"},)), spec(**fields))


def test_mixed_rows_take_the_shape_of_most() -> None:
    rows: tuple[Value, ...] = ({"messages": [USER, ANSWER]},) * 3 + ({"prompt": "a", "completion": "b"},)
    assert recognise(Sample(rows), spec()).name == "chat"


def test_examples_survive_json() -> None:
    (example,) = read(
        {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}], "tools": [TOOL]}
    )
    assert Example.model_validate(json.loads(example.model_dump_json())) == example
