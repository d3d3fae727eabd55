"""The alternatives that train nothing, from the cheapest on."""

import time
from collections import Counter
from collections.abc import Sequence
from functools import cached_property

from luthier.core.artifacts import Family
from luthier.evaluate import frozen
from luthier.evaluate.alternatives.desk import Desk
from luthier.evaluate.alternatives.questions import own_words
from luthier.evaluate.baselines import few_shot, near_shot, retrieval, zero_shot
from luthier.evaluate.baselines.setting import Setting
from luthier.evaluate.nearest import Space, Vectors, Words, fused
from luthier.examples.example import Example
from luthier.examples.store import Split
from luthier.model.embed import embed

MOST_TRAIN = 2000
"""Training rows that are embedded at most."""
LONGEST_WORDS = 256
"""Tokens of a question that are embedded at most."""
NEAR = 3
"""Passages before a question."""
CANDIDATES = 20
"""Passages of each ranking that are fused."""


class Untuned:
    """What the untuned model can do with instructions, examples, documents, or its vectors alone."""

    def __init__(self, desk: Desk, setting: Setting, passages: Sequence[str]) -> None:
        self.desk, self.setting, self.passages = desk, setting, list(passages)
        self.train = _drawn(setting.train)
        self.questions = desk.exam.questions

    def trivial(self) -> None:
        """Answer every question with the commonest answer of the training rows."""
        answers = Counter(example.answer.strip() for example in self.train)
        common = answers.most_common(1)[0][0]
        self.desk.told("the commonest answer", "trivial", [common] * len(self.questions), seconds=0.0, latency_s=0.0)

    def zero_shot(self) -> bool:
        """Ask with instructions only."""
        return self._ask("zero-shot", "prompt", zero_shot.requests(self.setting, self.questions))

    def few_shot(self) -> bool:
        """Put the same examples before each question."""
        return self._ask("few-shot", "few-shot", few_shot.requests(self.setting, self.questions))

    def near_shot(self) -> bool:
        """Put the nearest training rows before each question."""
        count = few_shot.wanted(self.setting)
        ranked = Space.of(self._vectors[0]).ranked(self._vectors[1], count)
        near = [[self.train[place] for place in places] for places in ranked]
        asked = near_shot.requests(self.setting, self.questions, near)
        return self._ask("few-shot, nearest", "few-shot", asked)

    def retrieval(self) -> bool:
        """Put the nearest passages of the documents before each question."""
        return self._ask("retrieval", "retrieve", self.with_passages)

    @cached_property
    def with_passages(self) -> list[Example]:
        """The questions with their passages: by words and by vectors, both rankings fused."""
        asked = own_words(self.questions)
        known = Space.of(self._embed(self.passages))
        by_vector = known.ranked(self._embed(asked), CANDIDATES)
        by_word = Words(self.passages).ranked(asked, CANDIDATES)
        near = [fused([words, list(vector)], NEAR) for words, vector in zip(by_word, by_vector, strict=True)]
        found = [[self.passages[place] for place in places] for places in near]
        return retrieval.requests(self.setting, self.questions, found)

    def heads(self) -> None:
        """Read labels off the frozen model's vectors: by nearest neighbours, and by a linear head."""
        started = time.monotonic()
        train, test = self._vectors
        labels = [example.answer.strip() for example in self.train]
        seconds = time.monotonic() - started
        each = seconds / (len(train) + len(test))
        near = frozen.neighbours(train, labels, test)
        self.desk.told("nearest neighbours", "head", near, seconds=seconds, latency_s=each)
        said = frozen.linear_head(train, labels, test, seed=self.setting.seed)
        self.desk.told("linear head", "head", said, seconds=time.monotonic() - started, latency_s=each)

    def _ask(self, name: str, family: Family, asked: Sequence[Example]) -> bool:
        prompts = [self.setting.template.prompt_ids(example) for example in asked]
        return self.desk.ask(name, family, prompts)

    @cached_property
    def _vectors(self) -> tuple[Vectors, Vectors]:
        """Vectors of the training questions and of the held-out ones."""
        words = own_words([*self.train, *self.questions])
        vectors = self._embed(words)
        return vectors[: len(self.train)], vectors[len(self.train) :]

    def _embed(self, texts: Sequence[str]) -> Vectors:
        tokenizer = self.setting.template.tokenizer
        ids = [tokenizer.encode(text or " ", add_special_tokens=False)[:LONGEST_WORDS] or [0] for text in texts]
        return embed(self.desk.base, ids, progress=self.desk.hear("embedding", len(ids)))


def _drawn(train: Split) -> list[Example]:
    """Return training rows that have a question and an answer, evenly over the split."""
    step = max(1, -(-len(train) // MOST_TRAIN))
    rows = (train.example(row) for row in range(0, len(train), step))
    return [example for example in rows if example.context and example.answer.strip()]
