"""Closed answers: which label an answer means, and accuracy, macro-F1 and confusion over the labels.

Two readings are kept apart, so that learning the format is not sold as learning the task. `format_followed` is strict:
the stripped answer is a label, letter for letter. Everything else reads an answer as a patient person would
(`read_labels`), so a base model that says "The answer is: Positive." is right.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from luthier.score.scores import FloatArray, Scores, mean_scores

OTHER = "(other)"
"""Column of the confusion matrix for answers that name no label, or several."""
END_PUNCTUATION = ".,;:!?。，；：！？"
WORD = r"[^\W\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
"""A letter or digit, but of scripts that part no words, or not all: Thai, Lao, Japanese, Chinese, Korean."""
SENTENCE_END = re.compile(r"[.;:!?。；：！？\n]")


def normalise(answer: str) -> str:
    """Return an answer as labels are compared: Unicode NFC, stripped, case-folded, without punctuation at its end."""
    plain = unicodedata.normalize("NFC", answer).strip().casefold()
    # A label may be nothing but punctuation.
    return plain.rstrip(END_PUNCTUATION).rstrip() or plain


def read_labels(answers: Sequence[str], labels: Sequence[str]) -> list[str | None]:
    """Return the label each answer means, or None.

    In this order: the answer is a label; it is one once normalised; its first line is; its first sentence is ("Neutral.
    Neither positive nor negative."); it mentions exactly one label, as whole words (the longer one where labels contain
    each other). Negations are not understood.
    """
    forms = _unambiguous_forms(labels)
    mention = whole_words(forms) if forms else None
    return [_read(answer, set(labels), forms, mention) for answer in answers]


def whole_words(words: Iterable[str]) -> re.Pattern[str]:
    """Return what finds any of these as whole words, the longer one where they contain each other."""
    longest_first = sorted(words, key=lambda word: (-len(word), word))
    return re.compile(rf"(?<!{WORD})(?:{'|'.join(map(re.escape, longest_first))})(?!{WORD})")


def _unambiguous_forms(labels: Sequence[str]) -> dict[str, str]:
    counts = Counter(normalise(label) for label in set(labels))
    return {normalise(label): label for label in labels if counts[normalise(label)] == 1 and normalise(label)}


def _read(answer: str, labels: set[str], forms: dict[str, str], mention: re.Pattern[str] | None) -> str | None:
    stripped = answer.strip()
    if stripped in labels:
        return stripped
    for text in (stripped, stripped.partition("\n")[0], SENTENCE_END.split(stripped, maxsplit=1)[0]):
        if normalise(text) in forms:
            return forms[normalise(text)]
    found = set(mention.findall(normalise(answer))) if mention else set()
    return forms[found.pop()] if len(found) == 1 else None


def label_set(references: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Return the labels together with the references they lack, sorted: no reference is ever outside the set."""
    return sorted(set(labels) | {reference.strip() for reference in references})


def accuracy(answers: Sequence[str], references: Sequence[str], labels: Sequence[str]) -> Scores:
    """Return accuracy, 0 to 1: the share of answers that mean the reference label."""
    read = read_labels(answers, label_set(references, labels))
    return mean_scores("accuracy", [float(a == r.strip()) for a, r in zip(read, references, strict=True)])


def format_followed(answers: Sequence[str], references: Sequence[str], labels: Sequence[str]) -> Scores:
    """Return the share of answers, 0 to 1, that are a label letter for letter once stripped."""
    allowed = set(label_set(references, labels))
    return mean_scores("format_followed", [float(answer.strip() in allowed) for answer in answers])


def macro_f1(answers: Sequence[str], references: Sequence[str], labels: Sequence[str]) -> Scores:
    """Return macro-F1, 0 to 1: the plain mean over labels of F1 = 2·TP / (true + answered) (van Rijsbergen 1979).

    Labels that are neither true nor answered are left out of the mean; answers outside the set count as misses.
    The same as scikit-learn's `f1_score(average="macro", labels=labels, zero_division=nan)`.
    """
    known = label_set(references, labels)
    true = _one_hot([reference.strip() for reference in references], known)
    answered = _one_hot(read_labels(answers, known), known)
    hits = true * answered
    return Scores("macro_f1", hits.sum(axis=1), np.hstack([hits, true, answered]), mean_f1)


def _one_hot(values: Sequence[str | None], known: list[str]) -> FloatArray:
    place = {label: index for index, label in enumerate(known)}
    matrix = np.zeros((len(values), len(known)))
    for row, value in enumerate(values):
        if value is not None:
            matrix[row, place[value]] = 1.0
    return matrix


def mean_f1(sums: FloatArray) -> FloatArray:
    """Return macro-F1 from summed hits, true and answered rows of each label, side by side."""
    hits, true, answered = np.split(sums, 3, axis=-1)
    met = true + answered > 0
    f1 = np.divide(2 * hits, true + answered, out=np.zeros_like(hits), where=met)
    return np.asarray(f1.sum(axis=-1) / met.sum(axis=-1))


def confusion(answers: Sequence[str], references: Sequence[str], labels: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count rows by true label, then by answered label, `(other)` last; only counts above zero are listed."""
    known = label_set(references, labels)
    read = read_labels(answers, known)
    counts = Counter((r.strip(), a or OTHER) for a, r in zip(read, references, strict=True))
    columns = [*known, OTHER]
    table = {true: {column: counts[true, column] for column in columns if counts[true, column]} for true in known}
    return {true: row for true, row in table.items() if row}
