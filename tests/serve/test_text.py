"""Text comes in whole characters, and nothing of a stop text comes at all."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.model.tiny import tiny_tokenizer
from luthier.serve.text import MOST_PARTS, PART, Speaker

TOKENIZER = tiny_tokenizer()
UNICODE = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
CLOSE_TEXTS = st.text("ab é😀", max_size=30)
"""Few characters, so that stop texts and their beginnings are met often."""


def ids_of(text: str) -> list[int]:
    return TOKENIZER(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def spoken(ids: Sequence[int], stop: Sequence[str] = ()) -> tuple[list[str], Speaker]:
    """Return the pieces, up to the one that reaches a stop text."""
    speaker, pieces = Speaker(TOKENIZER, stop), []
    for token in ids:
        pieces.append(speaker.add(token))
        if speaker.stopped:
            return pieces, speaker
    return [*pieces, speaker.rest()], speaker


@given(UNICODE)
def test_pieces_join_to_the_whole_text_in_whole_characters(text: str) -> None:
    ids = ids_of(text)
    pieces, speaker = spoken(ids)
    assert "".join(pieces) == TOKENIZER.decode(ids) == text
    assert not speaker.stopped
    assert PART in text or not any(PART in piece for piece in pieces)


@given(st.lists(st.integers(0, len(TOKENIZER) - 1), max_size=MOST_PARTS - 1))
def test_pieces_of_any_tokens_join_to_what_they_decode_to(ids: list[int]) -> None:
    pieces, _ = spoken(ids)
    assert "".join(pieces) == TOKENIZER.decode(ids, skip_special_tokens=True)


@given(CLOSE_TEXTS, st.text("ab é😀", min_size=1, max_size=4))
def test_text_ends_before_the_first_stop(text: str, stop: str) -> None:
    pieces, speaker = spoken(ids_of(text), [stop])
    assert "".join(pieces) == text.split(stop)[0]
    assert speaker.stopped == (stop in text)


@given(CLOSE_TEXTS, st.lists(st.text("ab é😀", min_size=1, max_size=4), min_size=2, max_size=4))
def test_with_several_stops_none_is_ever_said(text: str, stops: list[str]) -> None:
    pieces, speaker = spoken(ids_of(text), stops)
    said = "".join(pieces)
    assert text.startswith(said) and not any(stop in said for stop in stops)
    if speaker.stopped:
        assert any(text[len(said) :].startswith(stop) for stop in stops)
    else:
        assert said == text


def test_a_beginning_of_a_stop_is_held_back_and_released() -> None:
    speaker = Speaker(TOKENIZER, ["the end"])
    told = [speaker.add(token) for token in ids_of("so the en")]
    assert "".join(told) == "so " and speaker.rest() == "the en"


def test_a_stop_across_tokens_is_found() -> None:
    ids = ids_of("it is the end of it")
    assert all("the end" not in TOKENIZER.decode([token]) for token in ids)
    pieces, speaker = spoken(ids, ["the end"])
    assert "".join(pieces) == "it is " and speaker.stopped and speaker.rest() == ""


def test_a_character_of_several_tokens_is_said_once_it_is_whole() -> None:
    ids = ids_of("😀")
    assert len(ids) == 4
    pieces, _ = spoken(ids)
    assert pieces == ["", "", "", "😀", ""]


@pytest.mark.parametrize("ids", [ids_of("😀")[:3], ids_of("😀")[:1] * (3 * MOST_PARTS)], ids=["cut off", "endless"])
def test_what_never_becomes_a_character_is_shown_as_such(ids: list[int]) -> None:
    pieces, _ = spoken(ids)
    assert "".join(pieces) == TOKENIZER.decode(ids)
    assert set("".join(pieces)) == {PART}
