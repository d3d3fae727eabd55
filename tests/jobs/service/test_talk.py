"""What a model says, as a client reads it: without its thoughts, in OpenAI's words for the end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.jobs.service.calls import Call
from luthier.jobs.service.refusal import Refusal
from luthier.jobs.service.talk import Hearing, Manner, Thoughts, messages_of
from luthier.model.template import Template
from luthier.model.tiny import tiny_tokenizer
from luthier.serve.request import Piece

CALL = '<tool_call>{"name": "weather", "arguments": {}}</tool_call>'
SAID = ["plain", "<think>hm</think>\n\nyes", "  <think>\nhm\n</think>\nyes", "<thin", "<think>no end", "a <think> b"]
INSIDE = ["hm</think>\n\nyes", "\n</think>\n\n", "never ends", "</think>yes\n"]


def heard(text: str, cuts: list[int], *, opened: bool) -> str:
    thoughts = Thoughts(opened=opened)
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    return "".join(thoughts.hear(piece) for piece in pieces) + thoughts.end()


@given(st.sampled_from([(text, False) for text in SAID] + [(text, True) for text in INSIDE]), st.data())
def test_thoughts_are_left_out_as_evaluation_leaves_them_out(said: tuple[str, bool], data: st.DataObject) -> None:
    text, opened = said
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    tokenizer = tiny_tokenizer()
    opening = "<think>\n" if opened else ""
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] + m['content'] + '<|im_end|>' }}{% endfor %}{# <think> #}"
        "{% if add_generation_prompt %}{{ 'assistant" + opening.replace("\n", "\\n") + "' }}{% endif %}"
    )
    template = Template(tokenizer)
    assert template.opens_thought is opened
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert heard(text, cuts, opened=opened) == template.text(ids)


def test_a_template_without_thoughts_has_none() -> None:
    assert Template(tiny_tokenizer()).opens_thought is None


@pytest.mark.parametrize(
    ("text", "finish", "told"),
    [("hi", "stop", "stop"), ("hi", "length", "length"), (CALL, "stop", "tool_calls"), (CALL, "length", "length")],
)
def test_the_end_has_openais_word(text: str, finish: str, told: str) -> None:
    hearing = Hearing(Manner(frozenset({"weather"})))
    hearing.hear(Piece(text[:5], new_tokens=2, cached_tokens=3))
    assert hearing.finish is None
    hearing.hear(Piece(text[5:], new_tokens=1, finish=finish))
    assert (hearing.finish, hearing.new_tokens, hearing.cached_tokens) == (told, 3, 3)
    assert [part.name if isinstance(part, Call) else part for part in hearing.parts] != []


def test_a_call_after_a_thought() -> None:
    hearing = Hearing(Manner(frozenset({"weather"}), opens_thought=True))
    parts = [*hearing.hear(Piece("I need it.</think>\n\n")), *hearing.hear(Piece(CALL, finish="stop"))]
    assert [type(part) for part in parts] == [Call] and hearing.text == ""


def test_a_bad_message_is_named_as_the_hosted_service_names_it() -> None:
    with pytest.raises(Refusal) as refused:
        messages_of([{"role": "user", "content": [{"type": "text", "text": 3}]}])
    assert refused.value.param == "messages[0].content[0]"
