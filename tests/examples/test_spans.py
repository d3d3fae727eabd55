"""Words, spans and tags: every scheme gives the same entities, and the way there and back loses nothing."""

import random

import pytest

from luthier.examples.example import Span
from luthier.examples.spans import overlapping, spans_of, tag_set, tags_of, words_of


def texts(text: str) -> list[str]:
    return [text[start:end] for start, end in words_of(text)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Jean-Luc went.", ["Jean", "-", "Luc", "went", "."]),
        ("caf\u00e9 cafe\u0301", ["caf\u00e9", "cafe\u0301"]),
        ("a\U0001f600b", ["a", "\U0001f600", "b"]),
        ("\u2764\ufe0f!", ["\u2764\ufe0f", "!"]),
        ("in \u6771\u4eac2", ["in", "\u6771", "\u4eac", "2"]),
        ("  two  spaces ", ["two", "spaces"]),
        ("snake_case's", ["snake_case", "'", "s"]),
        ("", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert texts(text) == words


def test_a_mark_after_a_space_is_a_word_of_its_own() -> None:
    assert texts("a \u0301b") == ["a", "\u0301", "b"]


WORDS = [(0, 1), (2, 3), (4, 5), (6, 7)]


@pytest.mark.parametrize(
    "tags",
    [
        ["B-PER", "I-PER", "B-PER", "O"],  # IOB2
        ["I-PER", "I-PER", "B-PER", "O"],  # IOB1: B only between neighbours
        ["B-PER", "E-PER", "S-PER", "O"],  # BIOES
        ["B-PER", "L-PER", "U-PER", "O"],  # BILOU
    ],
)
def test_every_scheme_names_the_same_entities(tags: list[str]) -> None:
    assert spans_of(WORDS, tags) == [Span(start=0, end=3, label="PER"), Span(start=4, end=5, label="PER")]


def test_types_part_neighbours_and_the_end_closes() -> None:
    found = spans_of(WORDS, ["I-PER", "I-LOC", "O", "B-ORG"])
    assert [(span.start, span.end, span.label) for span in found] == [(0, 1, "PER"), (2, 3, "LOC"), (6, 7, "ORG")]


def test_random_spans_come_back_from_their_tags() -> None:
    draw = random.Random(0)
    text = "the café in Jean-Luc's (old) \u6771\u4eac, \U0001f600 ok"
    words = words_of(text)
    for _ in range(50):
        cuts = sorted(draw.sample(range(len(words) + 1), 4))
        spans = [
            Span(start=words[a][0], end=words[b - 1][1], label=draw.choice("XY"))
            for a, b in ((cuts[0], cuts[1]), (cuts[2], cuts[3]))
        ]
        assert spans_of(words, tags_of(words, spans)) == spans


def test_a_span_within_a_word_takes_the_word_whole() -> None:
    words = words_of("an iPhone12 here")
    assert tags_of(words, [Span(start=3, end=9, label="X")]) == ["O", "B-X", "O"]


def test_overlaps_are_found_wherever_they_stand() -> None:
    spans = [Span(start=5, end=9, label="A"), Span(start=0, end=6, label="B")]
    assert overlapping(spans) == (spans[1], spans[0])
    assert overlapping([Span(start=0, end=5, label="A"), Span(start=5, end=9, label="B")]) is None


def test_tag_set() -> None:
    assert tag_set(("LOC", "PER")) == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
