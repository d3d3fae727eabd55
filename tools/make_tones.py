"""Make examples/tones/tones.jsonl from the phrases that Hutto & Gilbert (2014) had rated.

The phrases lie inside the source package vaderSentiment 3.3.2 (MIT licence):

    pip download --no-deps --no-binary :all: vaderSentiment==3.3.2
    python tools/make_tones.py vaderSentiment-3.3.2.tar.gz examples/tones/tones.jsonl

The same package always gives the same file, byte for byte.
"""

import argparse
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"

# Sentences from product reviews and from newspaper editorials. The set's tweets are full of addresses and odd bytes,
# and its neutral film phrases are mostly praise and blame in one sentence.
FILES = ("amazonReviewSnippets", "nytEditorialSnippets")

TONED = 1.2
"""Least distance from 0 (on the raters' scale, -4 to 4) of a positive or negative phrase."""
NEUTRAL = 0.2
"""Greatest distance from 0 of a neutral phrase. What lies between is left out: the raters disagreed or wavered."""
LENGTH = range(30, 161)
"""Characters a phrase may have."""
PER_FILE_AND_TONE = 300
"""Equal counts per file too, so that the kind of text says nothing about the tone."""

UNCLEAN = re.compile(r"[^ -~]|&[a-z]+;|https?:|www\.|[@#]|, \d{4}$")
"""Odd bytes, markup, addresses, and the signatures (name, town, date) of letters to the editor."""


class Phrase(NamedTuple):
    """A phrase and the mean of its ratings."""

    text: str
    score: float


def main() -> None:
    """Read the package and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()

    content = arguments.package.read_bytes()
    if hashlib.sha256(content).hexdigest() != PACKAGE_SHA256:
        parser.error(f"{arguments.package} is not the source package of vaderSentiment 3.3.2")
    rows = sorted(chosen(content), key=lambda row: digest(row["phrase"]))
    lines = [json.dumps(row) + "\n" for row in rows]
    arguments.out.write_text("".join(lines), encoding="utf-8")


def chosen(package: bytes) -> Iterator[dict[str, str]]:
    """Yield the rows: for each file and tone the same number, drawn by the hash of their text."""
    for name in FILES:
        phrases = list(clean_phrases(ratings(package, name)))
        for tone in ("negative", "neutral", "positive"):
            fitting = sorted((phrase.text for phrase in phrases if tone_of(phrase.score) == tone), key=digest)
            if len(fitting) < PER_FILE_AND_TONE:
                raise SystemExit(f"{name} has only {len(fitting)} {tone} phrases")
            yield from ({"phrase": text, "tone": tone} for text in fitting[:PER_FILE_AND_TONE])


def ratings(package: bytes, name: str) -> str:
    """Return one ratings file: lines of id, mean rating and text, separated by tabs."""
    with tarfile.open(fileobj=io.BytesIO(package)) as outer:
        inner = outer.extractfile(INNER).read()
    with tarfile.open(fileobj=io.BytesIO(inner)) as archive:
        return archive.extractfile(f"hutto_ICWSM_2014/{name}_GroundTruth.txt").read().decode("latin-1")


def clean_phrases(table: str) -> Iterator[Phrase]:
    """Yield the phrases that are plain English prose of a fitting length, each once."""
    seen = set()
    for line in table.split("\n"):
        if not line.strip():
            continue
        _, score, text = line.split("\t")
        text = " ".join(text.split())
        key = re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()
        if len(text) in LENGTH and not UNCLEAN.search(text) and key not in seen:
            seen.add(key)
            yield Phrase(text, float(score))


def tone_of(score: float) -> str | None:
    """Return the tone of a mean rating, or None where it is not clear."""
    if abs(score) >= TONED:
        return "positive" if score > 0 else "negative"
    return "neutral" if abs(score) <= NEUTRAL else None


def digest(text: str) -> bytes:
    """Return a hash that orders the phrases without regard to where they stood."""
    return hashlib.sha256(text.encode()).digest()


if __name__ == "__main__":
    main()
