"""Completions: raw text goes on, in the old forms."""

import openai
import pytest
from tests.api.fakes import Room, pieces_of

from luthier.examples.example import Example, Segment
from luthier.model.template import Template
from luthier.model.tiny import CONTEXT, tiny_tokenizer


def ask(room: Room, strict: bool = True, **body: object):
    client = room.client(_strict_response_validation=strict)
    return client.completions.create(**{"model": "tiny", "prompt": "Once", **body})


def test_a_text_goes_on_as_raw_text_was_trained(room: Room) -> None:
    said = ask(room, model="gpt-4o-mini", seed=1)
    assert (said.choices[0].text, said.choices[0].finish_reason) == ("base says hello, 1", "stop")
    assert (said.object, said.model, said.usage.completion_tokens) == ("text_completion", "tiny", 6)
    rows = Example(segments=(Segment(text="Once", target=False), Segment(text=" upon a time", target=True)))
    trained = Template(tiny_tokenizer()).encode(rows)
    assert list(room.engine.asks[0].ids) == trained.ids[: trained.prompt_tokens]
    assert room.engine.asks[0].sampling.max_tokens == 16


def test_several_prompts_have_several_answers_each(room: Room) -> None:
    said = ask(room, prompt=["a", "b"], n=2, best_of=2, seed=0, echo=True)
    assert [choice.text for choice in said.choices] == [
        f"{prompt}base says hello, {seed}" for prompt in "ab" for seed in (0, 1)
    ]
    assert [choice.index for choice in said.choices] == [0, 1, 2, 3]
    assert said.usage.prompt_tokens == 2 and said.usage.prompt_tokens_details.cached_tokens == 2


def test_token_ids_are_taken_as_they_are(room: Room) -> None:
    assert ask(room, prompt=[5, 6]).choices[0].text
    assert len(ask(room, prompt=[[5], [6, 7]]).choices) == 2
    assert [ask.ids for ask in room.engine.asks] == [(5, 6), (5,), (6, 7)]
    assert ask(room, prompt="").usage.prompt_tokens == 1


def test_a_stream_says_the_same(room: Room) -> None:
    # Not strict: the client's type has no null `finish_reason`, which the hosted stream sends too.
    chunks = list(ask(room, strict=False, stream=True, echo=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == "Oncebase says hello, None"
    assert chunks[-2].choices[0].finish_reason == "stop" and chunks[-1].usage.completion_tokens == 7


def test_log_probabilities_have_the_old_form(room: Room) -> None:
    room.engine.script = lambda asked: pieces_of("abc", size=1, logprobs=asked.sampling.logprobs)
    told = ask(room, logprobs=2).choices[0].logprobs
    assert told.tokens == ["a", "b", "c"] and told.text_offset == [0, 1, 2]
    assert told.token_logprobs == [-0.5] * 3 and told.top_logprobs[0] == {"a": -0.5, "☃": -9999.0}
    chunks = list(ask(room, strict=False, logprobs=1, stream=True))
    assert [chunk.choices[0].logprobs.text_offset for chunk in chunks] == [[0], [1], [2]]


REFUSED = {
    "suffix": ({"suffix": "x"}, "unsupported_parameter", "suffix"),
    "best_of": ({"best_of": 3}, "unsupported_parameter", "best_of"),
    "echoed probabilities": ({"echo": True, "logprobs": 1}, "unsupported_parameter", "logprobs"),
    "no prompt in a list": ({"prompt": []}, "empty_array", "prompt"),
    "unknown token": ({"prompt": [99999]}, "invalid_value", "prompt"),
    "negative token": ({"prompt": [[-1]]}, "invalid_value", "prompt"),
    "too long": ({"prompt": "x" * CONTEXT}, "context_length_exceeded", "prompt"),
    "too many": ({"prompt": ["x"] * 17, "n": 8, "best_of": 8}, "invalid_value", "prompt"),
}


@pytest.mark.parametrize(("body", "code", "param"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_done_is_refused_by_name(room: Room, body: dict, code: str, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(room, **body)
    assert (refused.value.code, refused.value.param) == (code, param) and room.engine.asks == []
