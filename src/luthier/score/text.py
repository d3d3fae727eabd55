"""Free answers: exact match, token-F1, ROUGE-L, BLEU and chrF."""

import functools
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.helpers import extract_all_char_ngrams

from luthier.score.scores import FloatArray, Scores
from luthier.score.structured import fields, parse_object

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

# One word, of any script: rouge-score's own tokenizer keeps a–z and 0–9 only and scores other scripts 0.
WORD = re.compile(r"[^\W_]+")
ARTICLES = re.compile(r"\b(a|an|the)\b")


def exact_match(answer: str, reference: str) -> float:
    """Return 1 where both texts are equal once stripped (Unicode NFC), or are equal JSON objects; else 0."""
    if unicodedata.normalize("NFC", answer).strip() == unicodedata.normalize("NFC", reference).strip():
        return 1.0
    given, expected = parse_object(answer), parse_object(reference)
    return float(given is not None and expected is not None and fields(given) == fields(expected))


def token_f1(answer: str, reference: str) -> float:
    """Return SQuAD's token-F1 (Rajpurkar et al. 2016), 0 to 1: harmonic mean of precision and recall of words.

    Case, ASCII punctuation and English articles are ignored; two texts without words are equal.
    """
    given, expected = squad_words(answer), squad_words(reference)
    if not given or not expected:
        return float(given == expected)
    shared = (Counter(given) & Counter(expected)).total()
    return 2 * shared / (len(given) + len(expected))


def squad_words(text: str) -> list[str]:
    """Return the words that count: lower case, without ASCII punctuation and English articles."""
    plain = text.lower().translate(str.maketrans("", "", string.punctuation))
    return ARTICLES.sub(" ", plain).split()


class _Words:
    """The tokenizer given to rouge-score: on ASCII text the same words as its own, and other scripts too."""

    def tokenize(self, text: str) -> list[str]:
        return WORD.findall(text.lower())


@functools.cache
def _rouge_scorer() -> "RougeScorer":
    # Imported here because it pulls in nltk (a second).
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], tokenizer=_Words())


def rouge_l(answer: str, reference: str) -> float:
    """Return ROUGE-L F1 (Lin 2004), 0 to 1: the longest common subsequence of words; no stemming."""
    return float(_rouge_scorer().score(target=reference, prediction=answer)["rougeL"].fmeasure)


def bleu(answers: Sequence[str], references: Sequence[str]) -> Scores:
    """Return corpus BLEU (Papineni et al. 2002), 0 to 100, as sacrebleu computes it (13a tokens, exp smoothing).

    Per row: sentence BLEU with effective order (Chen and Cherry 2014).
    """
    scorer = BLEU(effective_order=True)
    rows = [scorer.sentence_score(answer, [reference]) for answer, reference in zip(answers, references, strict=True)]
    statistics = [[row.sys_len, row.ref_len, *row.counts, *row.totals] for row in rows]
    return Scores("bleu", np.array([row.score for row in rows]), np.array(statistics, dtype=np.float64), _bleu)


def _bleu(sums: FloatArray) -> FloatArray:
    # sacrebleu wants its counts as whole numbers.
    flat = np.rint(sums).astype(int).reshape(-1, sums.shape[-1]).tolist()
    values = [BLEU.compute_bleu(row[2:6], row[6:], row[0], row[1], smooth_method="exp").score for row in flat]
    return np.array(values).reshape(sums.shape[:-1])


def chrf(answers: Sequence[str], references: Sequence[str]) -> Scores:
    """Return corpus chrF2 (Popović 2015), 0 to 100, as sacrebleu computes it: n-grams of up to 6 characters.

    Per row: sentence chrF.
    """
    rows = [_chrf_counts(answer, reference) for answer, reference in zip(answers, references, strict=True)]
    statistics = np.array(rows, dtype=np.float64).reshape(len(rows), 3 * CHRF.CHAR_ORDER)
    return Scores("chrf", _chrf(statistics), statistics, _chrf)


def _chrf_counts(answer: str, reference: str) -> list[int]:
    pairs = zip(*(extract_all_char_ngrams(text, CHRF.CHAR_ORDER, False) for text in (answer, reference)), strict=True)
    # As in sacrebleu: n-grams that the reference is too short for do not count against the answer.
    counts = [
        (given.total() if expected else 0, expected.total(), (given & expected).total()) for given, expected in pairs
    ]
    return [count for triple in counts for count in triple]


def _chrf(sums: FloatArray) -> FloatArray:
    given, expected, shared = np.moveaxis(sums.reshape(*sums.shape[:-1], CHRF.CHAR_ORDER, 3), -1, 0)
    met = (given > 0) & (expected > 0)
    orders = np.maximum(met.sum(axis=-1), 1)
    precision = np.divide(shared, given, out=np.zeros_like(given), where=met).sum(axis=-1) / orders
    recall = np.divide(shared, expected, out=np.zeros_like(given), where=met).sum(axis=-1) / orders
    weight = CHRF.BETA**2
    below = weight * precision + recall
    return 100 * np.divide((1 + weight) * precision * recall, below, out=np.zeros_like(below), where=below > 0)
