"""Spans and tags: entities as places in a text, and as a tag for each of its words."""

import unicodedata
from collections.abc import Iterable, Sequence

from luthier.examples.example import Span

OUTSIDE = "O"
JOINERS = ("\u200d", "\ufe0e", "\ufe0f")
"""Characters that belong to the one before them, as combining marks do."""
OPENS, CLOSES = "BSU", "ESLU"
"""First letters of tags that always begin an entity, and that end one: of IOB1, IOB2, BIOES and BILOU."""
APART = ((0x0E00, 0x0EFF), (0x2E80, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
"""Scripts that put no spaces between words: Thai and Lao, Chinese and Japanese; each character stands alone."""
Place = tuple[int, int]
"""First character, and the one after the last."""


def words_of(text: str) -> list[Place]:
    """Return where the words of a text are: runs of letters and digits, and every other sign by itself.

    The same for every tokenizer. Marks stay with what they are on, so that both forms of `é` are one letter.
    """
    words: list[Place] = []
    running = False
    for place, sign in enumerate(text):
        if words and words[-1][1] == place and _joins(sign):
            words[-1] = (words[-1][0], place + 1)
            continue
        runs = _runs(sign)
        if runs and running:
            words[-1] = (words[-1][0], place + 1)
        elif not sign.isspace():
            words.append((place, place + 1))
        running = runs
    return words


def _joins(sign: str) -> bool:
    return sign in JOINERS or (sign > "\u02ff" and unicodedata.category(sign).startswith("M"))


def _runs(sign: str) -> bool:
    return (sign.isalnum() or sign == "_") and not any(low <= ord(sign) <= high for low, high in APART)


def tags_of(words: Sequence[Place], spans: Iterable[Span]) -> list[str]:
    """Return the tag of each word in IOB2; a word that a span only partly covers belongs to it whole."""
    tags = [OUTSIDE] * len(words)
    for span in spans:
        inside = [number for number, (start, end) in enumerate(words) if start < span.end and end > span.start]
        for number in inside:
            # Two entities in one word cannot both be said: the first one is.
            if tags[number] == OUTSIDE:
                tags[number] = f"{'B' if number == inside[0] else 'I'}-{span.label}"
    return tags


def spans_of(words: Sequence[Place], tags: Sequence[str]) -> list[Span]:
    """Return the entities that tags of IOB1, IOB2, BIOES or BILOU name; as conlleval, a stray `I-` begins one."""
    spans: list[Span] = []
    label, start, end = "", 0, 0
    for (first, last), tag in zip(words, tags, strict=True):
        prefix, _, kind = tag.partition("-")
        if label and (kind != label or prefix in OPENS):
            spans.append(Span(start=start, end=end, label=label))
            label = ""
        if kind:
            start = start if label else first
            label, end = kind, last
        if label and prefix in CLOSES:
            spans.append(Span(start=start, end=end, label=label))
            label = ""
    return [*spans, Span(start=start, end=end, label=label)] if label else spans


def tag_set(labels: Iterable[str]) -> tuple[str, ...]:
    """Return all tags that a head chooses from, for entities of these labels."""
    return (OUTSIDE, *(f"{prefix}-{label}" for label in labels for prefix in "BI"))


def overlapping(spans: Sequence[Span]) -> tuple[Span, Span] | None:
    """Return the first two spans that share a character, or None."""
    ordered = sorted(spans, key=lambda span: (span.start, span.end))
    pairs = zip(ordered, ordered[1:], strict=False)
    return next(((a, b) for a, b in pairs if b.start < a.end), None)
