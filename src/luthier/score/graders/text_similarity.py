"""How near two texts are, each measure by a library that others use for it; all 0 to 1."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rapidfuzz import fuzz, utils
from rapidfuzz.distance import LCSseq
from sacrebleu.metrics.bleu import BLEU

from luthier.score.graders.spec import Metric
from luthier.score.text import WORD

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

LONGEST = 50_000
"""Characters of a text that count: METEOR compares each word with each, which takes a second from here on."""
Embed = Callable[[Sequence[str]], Sequence[Sequence[float]]]


def similarity(metric: Metric, given: str, reference: str, embed: Embed) -> float:
    """Return the measure, 0 to 1; of longer texts the first 50,000 characters count."""
    given, reference = given[:LONGEST], reference[:LONGEST]
    match metric:
        case "cosine":
            return _cosine(*embed([given, reference]))
        case "fuzzy_match":
            return _fuzzy(given, reference)
        case "bleu":
            return min(BLEU(effective_order=True).sentence_score(given, [reference]).score / 100, 1.0)
        case "gleu":
            return _gleu(given, reference)
        case "meteor":
            return _meteor(given, reference)
        case "rouge_l":
            return _rouge_l(_words(given), _words(reference))
        case _:
            return _rouge(metric.replace("_", ""), given, reference)


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the cosine of two vectors; opposite ones count as 0, so that all measures share a scale."""
    length = math.hypot(*one) * math.hypot(*other)
    return min(max(sum(a * b for a, b in zip(one, other, strict=True)) / length, 0.0), 1.0) if length else 0.0


def _fuzzy(given: str, reference: str) -> float:
    """Return rapidfuzz's weighted ratio, which overlooks case, punctuation and the order of words."""
    ratio = fuzz.WRatio(given, reference, processor=utils.default_process) / 100
    return 1.0 if given == reference else float(ratio)


def _rouge_l(given: list[str], reference: list[str]) -> float:
    """Return ROUGE-L F1 (Lin 2004) as rouge-score does, by a faster longest common subsequence."""
    return 2 * LCSseq.similarity(given, reference) / max(len(given) + len(reference), 1)


def _gleu(given: str, reference: str) -> float:
    """Return Google-BLEU (Wu et al. 2016), n-grams of up to 4 words."""
    # Imported here because nltk takes seconds.
    from nltk.translate.gleu_score import sentence_gleu

    words, expected = _words(given), _words(reference)
    return float(sentence_gleu([expected], words)) if words and expected else float(words == expected)


class _NoSynonyms:
    """METEOR's third stage without its dictionary, which is data of its own licence: exact words and stems only."""

    def synsets(self, _word: str) -> list[object]:
        return []


def _meteor(given: str, reference: str) -> float:
    """Return METEOR (Banerjee and Lavie 2005) on exact words and stems, without WordNet's synonyms."""
    from nltk.translate.meteor_score import single_meteor_score

    return float(single_meteor_score(_words(reference), _words(given), wordnet=_NoSynonyms()))


class _Words:
    """The tokenizer given to rouge-score: words of any script."""

    def tokenize(self, text: str) -> list[str]:
        return _words(text)


@functools.cache
def _rouge_scorer(kind: str) -> "RougeScorer":
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind], tokenizer=_Words())


def _rouge(kind: str, given: str, reference: str) -> float:
    """Return ROUGE-N F1 (Lin 2004), no stemming."""
    return float(_rouge_scorer(kind).score(target=reference, prediction=given)[kind].fmeasure)
