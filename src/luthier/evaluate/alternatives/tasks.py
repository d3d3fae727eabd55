"""Tasks of lm-eval for advice: what the untuned and a tuned model score, within the budget; kept beside the answers."""

import json
from collections.abc import Sequence
from pathlib import Path

from luthier.core.artifacts import HarnessResult, Trained
from luthier.core.files import sha256_of_json, write_atomic
from luthier.evaluate.alternatives.desk import Desk
from luthier.evaluate.harness import harness_sources, load_tasks
from luthier.evaluate.harness_run import TaskScore, compared, request_tokens, run_tasks
from luthier.model.load import load_tokenizer

NAME = "tasks of lm-eval"
RESAMPLES = 2000


def before_and_after(
    desk: Desk, names: Sequence[str], trained: Trained, folder: Path, *, rows: int, seed: int
) -> list[HarnessResult]:
    """Put tasks to the untuned and a tuned model and compare them; nothing where the budget does not allow it."""
    asked = [list(names), harness_sources(names), rows, seed, RESAMPLES]
    weights = {"untuned": desk.given.base.weights_sha256, "tuned": trained.weights_sha256}
    keys = {model: sha256_of_json([*asked, sha256]) for model, sha256 in weights.items()}
    paths = {model: folder / f"lm-eval-{model}.json" for model in weights}
    scores = {model: _kept(paths[model], keys[model]) for model in weights}
    open_models = [model for model, kept in scores.items() if kept is None]
    if open_models:
        tasks, tokenizer = load_tasks(names, rows=rows, seed=seed), load_tokenizer(desk.given.base.folder)
        tokens = len(open_models) * request_tokens(tasks, tokenizer)
        if not desk.budget.allows(NAME, desk.seconds(tokens)):
            return []
        for model in open_models:
            opened = desk.base if model == "untuned" else desk.tuned(trained)
            found = run_tasks(tasks, opened, tokenizer, resamples=RESAMPLES)
            _keep(paths[model], keys[model], found)
            scores[model] = found
    return compared(scores["untuned"] or [], [scores["tuned"] or []], resamples=RESAMPLES, seed=seed)


def _kept(path: Path, key: str) -> list[TaskScore] | None:
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return [TaskScore.model_validate(one) for one in kept["scores"]] if kept.get("key") == key else None


def _keep(path: Path, key: str, found: Sequence[TaskScore]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps({"key": key, "scores": [one.model_dump(mode="json") for one in found]}))
