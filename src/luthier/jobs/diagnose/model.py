"""Evidence from the tuned model: how it judges held-out labels, how its prompts are rendered, how its answers end."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.advise.diagnose.evidence import Answered, BaseMatch, Judged, Rendered
from luthier.examples.example import Example
from luthier.examples.store import Encoded, Split
from luthier.jobs.diagnose.folder import NO_BASE, NO_DATA, NOT_EVALUATED, NOT_TRAINED, Opened, place
from luthier.jobs.diagnose.rows import HELD_OUT

if TYPE_CHECKING:
    from luthier.model.bitext import Bitext
    from luthier.model.template import Template

TUNED = "tuned"
MOST_JUDGED = 500
MOST_LABELS = 200
RENDERED_ROWS = 32
SHOWN = 24
"""Characters shown of two renderings where they begin to differ."""

Row = tuple[Encoded, Example]


def judged_of(opened: Opened) -> tuple[Judged, ...] | str:
    """Let the tuned model judge every label on the held-out rows; or say why it cannot."""
    trained, base = opened.trained, opened.base
    if trained is None:
        return NOT_TRAINED
    if base is None:
        return NO_BASE
    labels = sorted({label.strip() for label in trained.prepared.labels})
    if trained.prepared.answer_kind != "closed" or len(labels) < 2:
        return "the answers are no closed set of labels"
    if len(labels) > MOST_LABELS:
        return f"{len(labels)} labels are too many to price each"
    rows = [
        (row, example) for row, example in _held_out(opened) if example.answer.strip() in labels and row.prompt_tokens
    ]
    return _judge(opened, rows[:MOST_JUDGED], labels) if rows else "no labelled rows are held out"


def _held_out(opened: Opened) -> Iterator[Row]:
    if opened.prepared is None:
        return
    for part in reversed(HELD_OUT):
        split = Split(opened.prepared.split(part))
        yield from ((split.encoded(i), split.example(i)) for i in range(len(split)))


def _judge(opened: Opened, rows: list[Row], labels: list[str]) -> tuple[Judged, ...]:
    from luthier.evaluate.instruction import with_answer
    from luthier.model.adapter import load_tuned, ready
    from luthier.model.scoring import score_labels

    trained, base = opened.trained, opened.base
    if trained is None or base is None:
        return ()
    template, example = _template(base.folder), rows[0][1]
    answers = {label: template.encode(with_answer(example, label)) for label in labels}
    ids = {label: row.ids[row.prompt_tokens :] for label, row in answers.items()}
    prompts = [row.ids[: row.prompt_tokens] for row, _ in rows]
    scored = score_labels(ready(load_tuned(base.folder, trained.weights)), prompts, ids)
    return tuple(
        Judged(place(row.file, row.row), row.answer.strip(), _shares(scores.log_likelihood))
        for (_, row), scores in zip(rows, scored, strict=True)
    )


def _shares(logs: dict[str, float]) -> dict[str, float]:
    most = max(logs.values())
    weights = {label: math.exp(value - most) for label, value in logs.items()}
    total = sum(weights.values())
    return {label: weight / total for label, weight in weights.items()}


def _template(folder: Path) -> "Template | Bitext":
    from luthier.model.bitext import words_of

    return words_of(folder)


def rendered_of(opened: Opened) -> tuple[Rendered, ...] | str:
    """Render trained rows again, by the base as it is now, the exports and the evaluation; or say why not."""
    if opened.prepared is None:
        return NO_DATA
    if opened.base is None:
        return NO_BASE
    split = Split(opened.prepared.split("train"))
    rows = [(split.encoded(i), split.example(i)) for i in range(min(RENDERED_ROWS, len(split)))]
    folders = {"the base model": opened.base.folder}
    for export in sorted(opened.run.room("export").glob("*/tokenizer_config.json")):
        folders[f"export/{export.parent.name}"] = export.parent
    found = [_again(name, _template(folder), rows) for name, folder in folders.items()]
    return (*found, *_evaluated(opened))


def _again(name: str, template: "Template | Bitext", rows: list[Row]) -> Rendered:
    different, example = 0, ""
    for stored, row in rows:
        # A cut row is the beginning of the whole one.
        ids = template.encode(row).ids[: len(stored.ids)]
        if ids != stored.ids:
            different += 1
            example = example or _first_difference(place(row.file, row.row), template, stored.ids, ids)
    return Rendered(name, len(rows), different, example)


def _first_difference(row: str, template: "Template | Bitext", trained: list[int], now: list[int]) -> str:
    decode = template.tokenizer.decode
    return _shown(row, str(decode(trained)), str(decode(now)))


def _shown(row: str, trained: str, now: str) -> str:
    pairs = enumerate(zip(trained, now, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), min(len(trained), len(now)))
    start = max(0, at - SHOWN // 3)
    return f"{row}: trained {trained[start : start + SHOWN]!r}, now {now[start : start + SHOWN]!r}"


def _evaluated(opened: Opened) -> list[Rendered]:
    """Compare the prompts that the evaluation asked with those that the data room rendered."""
    path = opened.run.room("evaluate") / "samples.jsonl"
    if not path.exists() or opened.base is None:
        return []
    decode = _template(opened.base.folder).tokenizer.decode
    trained = {
        place(row.file, row.row): str(decode(stored.ids[: stored.prompt_tokens])) for stored, row in _held_out(opened)
    }
    asked = {sample["row"]: sample["prompt"] for sample in map(json.loads, path.read_text("utf-8").splitlines())}
    both = [(row, trained[row], prompt) for row, prompt in asked.items() if row in trained]
    wrong = [_shown(*pair) for pair in both if pair[1] != pair[2]]
    return [Rendered("the evaluation", len(both), len(wrong), wrong[0] if wrong else "")]


def answered_of(opened: Opened) -> Answered | str:
    """Return how the tuned model's answers ended, or why that is not known."""
    report, plan = opened.report, opened.plan
    if report is None or plan is None or plan.evaluate is None:
        return NOT_EVALUATED
    tuned = next((system for system in report.systems if system.name == TUNED), None)
    if tuned is None or not tuned.prompt_tokens:
        return "the evaluation let the model write no answers"
    limit = plan.evaluate.max_new_tokens
    rows = tuned.metrics[report.primary_metric].n if report.primary_metric in tuned.metrics else report.test_rows
    return Answered(rows=rows, stops_share=tuned.stops_share, limit=limit if isinstance(limit, int) else 0)


def base_of(opened: Opened) -> BaseMatch | str:
    """Return whether the base model is still the one that was tuned."""
    if opened.prepared is None:
        return NO_DATA
    if opened.base is None:
        return NO_BASE
    from luthier.model.checks import weight_files
    from luthier.model.digest import weights_sha256

    base, config = opened.prepared.base, opened.train_folder / "weights" / "adapter_config.json"
    named = json.loads(config.read_text("utf-8")).get("base_model_name_or_path") if config.exists() else None
    return BaseMatch(base.name, base.weights_sha256, weights_sha256(weight_files(base.folder)), named)
