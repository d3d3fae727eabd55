"""The desk: puts the held-out rows to one alternative after the other, and keeps what was answered."""

import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from luthier.core.artifacts import Family, Prepared, Trained
from luthier.core.events import Emit, Event
from luthier.core.files import sha256_of_json, write_atomic
from luthier.evaluate.alternatives.budget import ANSWER_COST, FLOP_PER_S_AND_CORE, FLOP_PER_TOKEN, Budget
from luthier.evaluate.alternatives.seeds import mean_of
from luthier.evaluate.answer import Answers, Progress, chosen_answers, written_answers
from luthier.evaluate.conclusion import LABEL_SCORED
from luthier.evaluate.exam import Exam
from luthier.evaluate.results import Sitting, scored
from luthier.model.adapter import load_tuned, ready
from luthier.model.load import load_model
from luthier.model.prefixes import common_prefix
from luthier.model.quick import quicken
from luthier.model.scoring import row_losses
from luthier.score.names import MetricName
from luthier.score.scores import Scores


@dataclass(frozen=True, eq=False)
class Result:
    """One alternative on the held-out rows."""

    name: str
    family: Family
    scores: Scores
    answers: Answers | None
    """None where rows were priced, not answered."""
    seconds: float
    """How long it took to measure."""
    train_rows: int | None = None
    """Rows it was tuned on; None where nothing was."""
    train_seconds: float = 0.0
    again: tuple[Scores, ...] = ()
    """The same rows after trainings with other seeds."""
    again_seconds: float = 0.0
    """How long these trainings and their measurements took."""

    @property
    def mean(self) -> Scores:
        """The scores over all trainings."""
        return mean_of([self.scores, *self.again])


class Desk:
    """The held-out rows, the untuned model, and what was answered so far."""

    def __init__(
        self, given: Prepared, exam: Exam, metric: MetricName, budget: Budget, folder: Path, emit: Emit
    ) -> None:
        self.given, self.exam, self.metric = given, exam, metric
        self.budget, self.emit = budget, emit
        self.results: list[Result] = []
        self._folder = folder / "answers"
        self._second_per_token: float | None = None

    @cached_property
    def base(self) -> torch.nn.Module:
        """The untuned model."""
        return quicken(load_model(self.given.base.folder))

    def release(self) -> None:
        """Let go of the untuned model; it is loaded again when it is needed."""
        self.__dict__.pop("base", None)

    def ask(
        self,
        name: str,
        family: Family,
        prompts: Sequence[list[int]],
        trained: Trained | None = None,
    ) -> bool:
        """Let the untuned or a tuned model write answers and, where there are labels, choose them; False: left out."""
        tokens = _own_tokens(prompts) + ANSWER_COST * self.exam.max_new_tokens * len(prompts)
        weights = [self.given.base.weights_sha256, trained.weights_sha256 if trained else ""]
        key = sha256_of_json([*weights, list(prompts), self.exam.max_new_tokens])
        kept = self._kept(name, key)
        if kept is None and not self.budget.allows(name, self.seconds(tokens)):
            return False
        if kept is None:
            started = time.monotonic()
            kept = self._answered(name, self._model(trained), prompts)
            seconds = time.monotonic() - started
            self._keep(name, key, kept, seconds)
        else:
            seconds = self._read(name)["seconds"]
        self._second_per_token = seconds / max(1, tokens)
        for system, answers in kept.items():
            self._take(Sitting(system, answers), family, seconds / len(kept), trained)
        return True

    def told(self, name: str, family: Family, texts: list[str], *, seconds: float, latency_s: float) -> None:
        """Take answers that no model wrote; finding them took so long, and each would again take `latency_s`."""
        answers = Answers(texts, [True] * len(texts), 0.0, latency_s)
        self._take(Sitting(name, answers), family, seconds)

    def price(self, name: str, family: Family, trained: Trained | None = None) -> bool:
        """Let a model price the rows, where they are pairs or plain text; False: left out."""
        rows = self.exam.rows
        rejected = [row.rejected for row in rows if row.rejected]
        tokens = sum(len(row.ids) for row in [*rows, *rejected])
        if not self.budget.allows(name, self.seconds(tokens)):
            return False
        started = time.monotonic()
        losses = row_losses(self._model(trained), [*rows, *rejected], progress=self.hear(name, len(rows)))
        seconds = time.monotonic() - started
        self._second_per_token = seconds / max(1, tokens)
        sitting = Sitting(name, None, losses[: len(rows)], losses[len(rows) :] or None)
        self._take(sitting, family, seconds, trained)
        return True

    def again(self, name: str, found: Sequence[Result]) -> None:
        """Add what the same tuning scored with another seed to what it scored before, which is called by the name."""
        for other in found:
            kind = LABEL_SCORED if other.name.endswith(LABEL_SCORED) else ""
            place = next(i for i, one in enumerate(self.results) if one.name == name + kind)
            one = self.results[place]
            spent = one.again_seconds + other.seconds + other.train_seconds
            self.results[place] = replace(one, again=(*one.again, other.scores), again_seconds=spent)

    def tuned(self, trained: Trained) -> torch.nn.Module:
        """Load a tuned model, without the untuned one beside it."""
        self.release()
        return quicken(ready(load_tuned(self.given.base.folder, trained.weights)))

    def _model(self, trained: Trained | None) -> torch.nn.Module:
        return self.tuned(trained) if trained else self.base

    def seconds(self, tokens: float) -> float:
        """Return about how long a model computes so many tokens here: as the last time, else a guess."""
        if self._second_per_token is not None:
            return tokens * self._second_per_token
        weights = sum(weight.numel() for weight in self.base.parameters())
        return tokens * weights * FLOP_PER_TOKEN / (FLOP_PER_S_AND_CORE * torch.get_num_threads())

    def _answered(self, name: str, model: torch.nn.Module, prompts: Sequence[list[int]]) -> dict[str, Answers]:
        rows = len(prompts) * (2 if self.exam.labels else 1)
        hear = self.hear(name, rows)
        found = {name: written_answers(model, self.exam, prompts, hear)}
        if self.exam.labels:
            found[name + LABEL_SCORED] = chosen_answers(model, self.exam, prompts, hear)
        return found

    def _take(self, sitting: Sitting, family: Family, seconds: float, trained: Trained | None = None) -> None:
        scores = scored(sitting, self.exam, [self.metric]).scores[self.metric]
        result = Result(sitting.system, family, scores, sitting.answers, seconds)
        if trained:
            rows = trained.prepared.rows["train"]
            result = replace(result, train_rows=rows, train_seconds=trained.seconds)
        self.results.append(result)

    def hear(self, name: str, total: int) -> Progress:
        """Return what turns finished rows into progress events."""
        done = 0

        def heard(rows: int) -> None:
            nonlocal done
            done += rows
            data = {"done": done, "total": total, "system": name, "task": "answers"}
            self.emit(Event(room="evaluate", kind="progress", message=name, data=data))

        return heard

    def _path(self, name: str) -> Path:
        return self._folder / f"{name.replace(' ', '-').replace('/', '-')}.json"

    def _read(self, name: str) -> dict[str, Any]:
        path = self._path(name)
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def _kept(self, name: str, key: str) -> dict[str, Answers] | None:
        kept = self._read(name)
        if kept.get("key") != key:
            return None
        return {system: Answers(**answers) for system, answers in kept["answers"].items()}

    def _keep(self, name: str, key: str, found: dict[str, Answers], seconds: float) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        answers = {system: asdict(one) for system, one in found.items()}
        write_atomic(self._path(name), json.dumps({"key": key, "seconds": seconds, "answers": answers}))


def _own_tokens(prompts: Sequence[list[int]]) -> int:
    """Return the tokens to compute, of a beginning that neighbours share only one copy."""
    ordered = sorted(prompts)
    shared = sum(common_prefix(a, b) for a, b in itertools.pairwise(ordered))
    return sum(map(len, ordered)) - shared
