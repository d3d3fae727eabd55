"""Reader: words keep their characters, whatever a tokenizer does to them; cutting keeps the end."""

import pytest

from luthier.core.errors import DataError
from luthier.data.formats.shape import judged
from luthier.examples.example import Span
from luthier.model.reader import Reader, cut_encoded
from luthier.model.tiny import tiny_tokenizer, tiny_word_pieces

READERS = {"word pieces": Reader(tiny_word_pieces()), "bytes": Reader(tiny_tokenizer())}


@pytest.fixture(params=READERS, ids=list(READERS))
def reader(request: pytest.FixtureRequest) -> Reader:
    return READERS[request.param]


TEXTS = [
    "caf\u00e9 cafe\u0301 NA\u00cfVE",
    "a \U0001f600 smile \U0001f469\u200d\U0001f52c!",
    "Jean-Luc's well-known (old) friend",
    "\u6771\u4eac and \u0e01\u0e02",
    "x",
]


@pytest.mark.parametrize("text", TEXTS)
def test_each_word_has_a_token_of_its_own_characters(reader: Reader, text: str) -> None:
    reading = reader.read(text)
    read = reader.tokenizer(text, return_offsets_mapping=True)
    assert reading.ids == read["input_ids"]
    assert len(reading.words) == len(reading.tokens) == len(set(reading.tokens)) > 0
    assert list(reading.tokens) == sorted(reading.tokens)
    for (start, end), token in zip(reading.words, reading.tokens, strict=True):
        first, last = read["offset_mapping"][token]
        assert first < end and last > start, f"{text[start:end]!r} is not in token {token}"


def test_lower_case_and_stripped_accents_leave_the_places_alone() -> None:
    text = "In ZU\u0308RICH, Caf\u00e9"
    encoded = READERS["word pieces"].encode(judged(text, spans=(Span(start=3, end=10, label="LOC"),)))
    assert text[3:10] == "ZU\u0308RICH" and encoded.tags == ("O", "B-LOC", "O", "O")


def test_spans_at_both_ends_and_within_one_piece(reader: Reader) -> None:
    text = "Ada met Bob"
    spans = (Span(start=0, end=3, label="PER"), Span(start=8, end=11, label="PER"))
    assert reader.encode(judged(text, spans=spans)).tags == ("B-PER", "O", "B-PER")
    within = reader.encode(judged("the end", spans=(Span(start=1, end=2, label="X"),)))
    assert within.tags == ("B-X", "O")


def test_targets_stand_at_the_words_or_where_the_head_reads() -> None:
    pieces, letters = READERS["word pieces"], READERS["bytes"]
    named = pieces.encode(judged("ab cd", spans=()))
    assert [i for i, target in enumerate(named.targets) if target] == list(named.words) == [1, 3]
    assert pieces.encode(judged("ab cd", label="x")).targets[0] is True
    assert letters.encode(judged("ab cd", label="x")).targets[-1] is True


def test_a_cut_text_ends_as_a_whole_one_and_loses_its_last_words() -> None:
    reader = READERS["word pieces"]
    text = "ab cd ef gh"
    encoded = reader.encode(judged(text, spans=(Span(start=9, end=11, label="X"),)))
    cut = cut_encoded(encoded, 6)
    assert len(cut.ids) == 6 and cut.ids[-1] == encoded.ids[-1] == reader.tokenizer.sep_token_id
    assert cut.tags == ("O", "O", "O")[: len(cut.words)] and all(place < 5 for place in cut.words)
    assert reader.read(text).cut(6).ids == cut.ids
    assert reader.read(text).cut(100).ids == encoded.ids


def test_half_a_character_is_refused(reader: Reader) -> None:
    with pytest.raises(DataError, match="half of a character"):
        reader.read("a \ud83d b")
