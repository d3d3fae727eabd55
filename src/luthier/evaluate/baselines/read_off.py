"""Read off: answers that no model makes. `copy` is the source itself, `lead` as many of its first sentences as fit."""

import re
from collections.abc import Sequence
from statistics import median

from luthier.evaluate.answer import Answers
from luthier.evaluate.spec import BaselineName
from luthier.examples.example import Example
from luthier.examples.store import Split
from luthier.model.bitext import LOOKED_AT, instruction_of, source_of, target_of

SENTENCE = re.compile(r".+?(?:[.!?\u3002\uff01\uff1f]+[\"')\u201d\u2019]*(?=\s|$)|\n+|$)\s*", re.DOTALL)


def read_off(name: BaselineName, train: Split, rows: Sequence[Example]) -> Answers:
    """Return what `copy` or `lead` answers to the rows, without the instruction that all sources begin with."""
    instruction = instruction_of(train)
    texts = [source_of(row).removeprefix(instruction) for row in rows]
    if name == "lead":
        known = (train.example(row) for row in range(min(LOOKED_AT, len(train))))
        words = median(len(target_of(example).split()) for example in known)
        texts = [lead(text, words) for text in texts]
    return Answers(texts, [True] * len(texts), prompt_tokens=0.0, latency_s=0.0)


def lead(text: str, words: float) -> str:
    """Return the first sentences of a text: one at least, and more as long as they stay within so many words."""
    kept = ""
    for sentence in SENTENCE.findall(text):
        if kept.strip() and len((kept + sentence).split()) > words:
            break
        kept += sentence
    return kept.strip()
