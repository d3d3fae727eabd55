"""Tool calls are found however the model's text is cut, and text that is no call stays text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.jobs.service.calls import Call, Calls, Part

HERMES = '<tool_call>\n{"name": "weather", "arguments": {"city": "Brno"}}\n</tool_call>'
WEATHER = ("weather", {"city": "Brno"})
TIME = ("time", {})
CASES: dict[str, tuple[str, list]] = {
    "hermes": (HERMES, [WEATHER]),
    "text before": (f"Let me look.\n\n{HERMES}", ["Let me look.", WEATHER]),
    "two calls": (f"{HERMES}\n<tool_call>" + '{"name":"time","arguments":{}}</tool_call>', [WEATHER, TIME]),
    "left open": (HERMES.removesuffix("</tool_call>"), [WEATHER]),
    "llama": ('{"name": "weather", "parameters": {"city": "Brno"}}', [WEATHER]),
    "llama tag": ('<|python_tag|>{"name": "weather", "parameters": {"city": "Brno"}}', [WEATHER]),
    "mistral": ('[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Brno"}}, {"name": "time"}]', [WEATHER, TIME]),
    "phi": ('<|tool_call|>[{"name": "weather", "arguments": {"city": "Brno"}}]<|/tool_call|>', None),
    "openai": ('{"type": "function", "function": {"name": "time", "arguments": "{}"}}', [TIME]),
    "unknown tool": ('<tool_call>{"name": "rm", "arguments": {}}</tool_call>', None),
    "no json": ("<tool_call>weather in Brno</tool_call>", None),
    "json that is no call": ('{"city": "Brno"}', None),
    "a list of words": ('["a", "b"]', None),
    "arguments that are no object": ('{"name": "weather", "arguments": [1]}', None),
    "text": ("It is sunny, 3 < 4 and <tool> is a word.", None),
    "blank": (" \n ", None),
    "text after": (f"{HERMES}Done.", [WEATHER, "Done."]),
    "deep": ("[" * 100_000, None),
}


def heard(pieces: list[str], **options: int) -> list:
    """Return what was found, adjoining texts joined."""
    calls = Calls({"weather", "time"}, **options)
    parts: list[Part] = [part for piece in pieces for part in calls.hear(piece)]
    parts += calls.end()
    found: list = []
    for part in parts:
        if isinstance(part, Call):
            found.append((part.name, json.loads(part.arguments)))
        elif found and isinstance(found[-1], str):
            found[-1] += part
        else:
            found.append(part)
    return found


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES)
def test_calls_are_found_and_text_stays_text(text: str, expected: list | None) -> None:
    wanted = [text] if expected is None else expected
    assert heard([text]) == wanted
    if len(text) < 1000:
        assert heard(list(text)) == wanted


@given(st.data())
def test_the_cutting_of_the_text_does_not_matter(data: st.DataObject) -> None:
    text = "".join(
        data.draw(st.lists(st.sampled_from([HERMES, "<tool_", "call>", "</tool_call>", " ", "a", "{", '"'])))
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert heard(pieces) == heard([text])


@given(st.text(alphabet="<tool_cal>/ \n{x"))
def test_text_without_a_call_loses_nothing(text: str) -> None:
    assert "".join(heard(list(text))) == text


def test_text_is_told_while_it_is_spoken() -> None:
    calls = Calls({"weather"})
    assert [list(calls.hear(text)) for text in ("It ", "is ", "<to", ">")] == [["It"], [" is"], [], [" <to>"]]


def test_only_one_call_where_only_one_is_wanted() -> None:
    assert heard([HERMES + HERMES], at_most=1) == [WEATHER]


def test_every_call_has_its_own_id() -> None:
    calls = Calls({"weather"})
    first, second = (part for part in calls.hear(HERMES + HERMES) if isinstance(part, Call))
    assert first.id != second.id and first.id.startswith("call_")
