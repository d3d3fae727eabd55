"""Embeddings: a vector per text, as numbers or in base64."""

import openai
import pytest
from tests.api.fakes import Room


def ask(room: Room, **body: object):
    # Strict where it can be: the client itself asks for base64 and then calls it no list.
    client = room.client(_strict_response_validation=body.get("encoding_format") == "float")
    return client.embeddings.create(**{"model": "tiny", "input": "abc", **body})


def test_the_client_reads_both_forms_alike(room: Room) -> None:
    packed, plain = ask(room), ask(room, encoding_format="float")
    assert plain.data[0].embedding == [0.6, 0.8, 0.0, 3.0]
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert (packed.model, packed.usage.prompt_tokens, packed.usage.total_tokens) == ("tiny", 3, 3)


def test_lists_and_token_ids_keep_their_order(room: Room) -> None:
    assert [item.embedding[3] for item in ask(room, input=["a", "bb"]).data] == [1.0, 2.0]
    assert [item.index for item in ask(room, input=[[1, 2], [3]]).data] == [0, 1]
    assert ask(room, input=[1, 2, 3]).usage.prompt_tokens == 3


def test_fewer_dimensions_have_length_one_again(room: Room) -> None:
    assert ask(room, dimensions=1).data[0].embedding == [1.0]
    assert ask(room, dimensions=2, encoding_format="float").data[0].embedding == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"dimensions": 5}, "invalid_value", "dimensions"),
        ({"input": ""}, "invalid_value", "input"),
        ({"input": ["a", ""]}, "invalid_value", "input"),
        ({"input": [[]]}, "invalid_value", "input"),
        ({"input": [99999]}, "invalid_value", "input"),
        ({"input": "x" * 600}, "context_length_exceeded", "input"),
    ],
)
def test_what_cannot_be_is_refused(room: Room, body: dict, code: str, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(room, **body)
    assert (refused.value.code, refused.value.param) == (code, param)
