"""Answers that are pieces of a text: what the tuned head points at, and what is reached without tuning."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from luthier.core.artifacts import Trained
from luthier.evaluate.heads.exam import HeadExam
from luthier.evaluate.heads.said import Said
from luthier.evaluate.spec import BaselineName
from luthier.model.adapter import load_tuned
from luthier.model.headcard import HeadCard
from luthier.model.headed import load_headed
from luthier.model.headstep import HeadStep
from luthier.model.load import load_tokenizer
from luthier.model.pairs import Pair, read_pair
from luthier.model.quoting import find_quotes

WORD = re.compile(r"\w+")
SENTENCE = re.compile(r"[^.!?。！？\n]*[^.!?。！？\s][^.!?。！？\n]*[.!?。！？]*[\"'”’)]*")


class Quoting:
    """The exam's questions, read once, put to one system after the other."""

    def __init__(self, given: Trained, exam: HeadExam, *, seed: int) -> None:
        self.given, self.exam, self.seed = given, exam, seed
        tokenizer = load_tokenizer(given.prepared.base.folder)
        self._parts = [tuple(segment.text for segment in example.segments) for example in exam.examples]
        self._pairs: list[Pair] = [read_pair(tokenizer, question, text) for question, text in self._parts]

    def tuned(self, system: str, weights: Path, card: HeadCard) -> Said:
        """Return what a training's head points at, or that it says nothing."""
        return self._pointed(system, HeadStep(load_tuned(self.given.prepared.base.folder, weights), card))

    def baseline(self, name: BaselineName) -> Said:
        """Return what a baseline answers."""
        if name == "untuned":
            # With a head that the base brings, or else a drawn one.
            card = self.exam.card
            plain = card.model_copy(update={"threshold": None if card.threshold is None else 0.0})
            base = load_headed(self.given.prepared.base.folder, plain, seed=self.seed)
            return self._pointed(name, HeadStep(base, plain))
        answers: dict[BaselineName, Callable[[], list[str]]] = {
            "majority": self._usual,
            "nearest-sentence": self._nearest_sentences,
        }
        started = perf_counter()
        said = answers[name]()
        return Said(name, answers=said, seconds=(perf_counter() - started) / len(self._parts))

    def _pointed(self, system: str, step: HeadStep) -> Said:
        started = perf_counter()
        found = find_quotes(step, self._pairs)
        said = [
            "" if one.is_nothing(step.card) else text[one.start : one.end]
            for one, (_, text) in zip(found, self._parts, strict=True)
        ]
        return Said(system, answers=said, seconds=(perf_counter() - started) / len(self._pairs))

    def _usual(self) -> list[str]:
        usual = Counter(example.answer for example in self.exam.train).most_common(1)[0][0]
        return [usual] * len(self._parts)

    def _nearest_sentences(self) -> list[str]:
        """Return of each text the sentence whose words, weighed by how rare they are, are most like the question's."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        known = dict.fromkeys(example.segments[1].text for example in self.exam.train)
        sentences = [sentence for text in known for sentence in sentences_of(text)]
        vectors = TfidfVectorizer(sublinear_tf=True, analyzer=words_of).fit(sentences)
        return [_nearest(vectors.transform, question, sentences_of(text)) for question, text in self._parts]


def words_of(text: str) -> list[str]:
    """Return a text's words in lower case."""
    return WORD.findall(text.lower())


def sentences_of(text: str) -> list[str]:
    """Return a text's sentences: what ends with a full stop, a question mark, an exclamation mark or a line."""
    return [found.group().strip() for found in SENTENCE.finditer(text)] or [text.strip()]


def _nearest(vectors: Callable[[Sequence[str]], np.ndarray], question: str, sentences: Sequence[str]) -> str:
    likeness = vectors(sentences) @ vectors([question]).T
    return sentences[int(likeness.toarray().ravel().argmax())]
