"""Count what a plan will do: its own micro-batches in its own order, validations, checkpoints, questions."""

import math
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from luthier.advise.estimate.work import Shape, Work
from luthier.core.artifacts import Prepared
from luthier.export.spec import form_of
from luthier.recipe import Plan
from luthier.train.spec import is_shared, state_bytes

if TYPE_CHECKING:
    from luthier.examples.store import Encoded, Split

COUNTED_STEPS = 400
"""Steps whose micro-batches are cut; of longer runs so many, evenly spread."""
MOST_PICKS = 24
"""Micro-batches that are timed at most, each of another shape."""
BATCH_TOKENS, BATCH_ROWS = 4096, 64
"""What an evaluation answers together."""
MARGIN_TOKENS = 12


class MicroBatch(NamedTuple):
    """Rows of the training split that are computed together, and as what."""

    rows: tuple[int, ...]
    shape: Shape


class Counted(NamedTuple):
    """What a plan will do, and the micro-batches to time, the heaviest first."""

    work: Work
    picks: tuple[MicroBatch, ...]


def is_fast(plan: Plan) -> bool:
    """Tell whether the plan asks for the fast step."""
    return bool(plan.train.fast_step)


def shares(plan: Plan) -> bool:
    """Tell whether the plan lets rows share their beginnings."""
    return is_fast(plan) and is_shared(plan.train)


def count(plan: Plan, prepared: Prepared, *, fast: bool, share: bool) -> Counted:
    """Count the work of a plan on its prepared rows, for the step that will run."""
    from luthier.examples.store import Split

    train, validation = Split(prepared.split("train")), Split(prepared.split("validation"))
    batch_size = min(plan.train.batch_size, len(train))
    steps = plan.train.steps or max(1, math.ceil(plan.train.epochs * len(train) / batch_size))
    sampled = _spread(steps, COUNTED_STEPS)
    found = list(_micro_batches(plan, train, sampled, batch_size=batch_size, fast=fast, share=share))
    has_validation = len(validation) > 0
    pairs = plan.train.method.takes_pairs
    saved, snapshots = _saves(plan, steps, rows=len(train), batch_size=batch_size)
    work = Work(
        method=plan.train.method.name,
        full=plan.train.adapter.traits.whole,
        ranked=hasattr(plan.train.adapter, "r"),
        recomputes=bool(plan.train.gradient_checkpointing),
        offloads=plan.train.activation_offload,
        state_bytes=state_bytes(plan.train),
        precision=plan.train.precision,
        micro_batch_tokens=plan.train.micro_batch_tokens,
        longest_tokens=prepared.longest,
        steps=steps,
        sampled_steps=len(sampled),
        sampled_rows=len(sampled) * batch_size,
        micro_batches=tuple(micro.shape for micro in found),
        referenced_rows=len(train) + len(validation) if pairs else 0,
        validations=1 + _times(steps, _every(plan.train.validate_every, steps)) + snapshots if has_validation else 0,
        watched=tuple(_watched(plan, validation, fast=fast, share=share)),
        checkpoints=saved,
        kept_checkpoints=min(saved, plan.train.keep_checkpoints),
        snapshots=snapshots,
        kept_snapshots=min(snapshots, plan.train.snapshots),
        exports=tuple(form_of(one).title for one in plan.export),
        data_bytes=_bytes(prepared.folder),
        trainings=plan.seeds,
        **_questions(plan, prepared, train),
    )
    return Counted(work, _picks(found))


def _spread(steps: int, most: int) -> list[int]:
    return list(range(steps)) if steps <= most else [round(i * (steps - 1) / (most - 1)) for i in range(most)]


def _micro_batches(
    plan: Plan, train: "Split", steps: Sequence[int], *, batch_size: int, fast: bool, share: bool
) -> Iterable[MicroBatch]:
    from luthier.train.batches import Cut, rows_of_step

    encoded, cut = cache(train.encoded), Cut(plan.train.micro_batch_tokens, share=share)
    for step in steps:
        numbers = rows_of_step(step, rows=len(train), batch_size=batch_size, seed=plan.seed)
        rows = [encoded(number) for number in numbers]
        for places in cut.places(rows):
            yield MicroBatch(
                tuple(numbers[i] for i in places), shape_of([rows[i] for i in places], fast=fast, share=share)
            )


def _watched(plan: Plan, validation: "Split", *, fast: bool, share: bool) -> Iterable[Shape]:
    from luthier.train.batches import WATCHED_ROWS, Cut

    rows = [validation.encoded(number) for number in range(min(WATCHED_ROWS, len(validation)))]
    cut = Cut(plan.train.micro_batch_tokens, share=share)
    return [shape_of(group, fast=fast, share=share) for group in cut(rows)]


def shape_of(rows: "Sequence[Encoded]", *, fast: bool, share: bool) -> Shape:
    """Return what is computed for the rows of one micro-batch."""
    from luthier.model.layout import build_layout

    answers = [answer for row in rows for answer in row.answers]
    if not fast:
        longest = max(len(answer.ids) for answer in answers)
        tokens = longest * len(answers)
        return Shape(tokens=tokens, targets=tokens, pairs=tokens * longest)
    layout = build_layout(answers, share=share)
    pairs = sum((tile.end - tile.start) * (tile.before_count + tile.end - tile.start) for tile in layout.tiles)
    return Shape(tokens=layout.length, targets=len(layout.target_ids), pairs=pairs)


def _picks(found: Sequence[MicroBatch]) -> tuple[MicroBatch, ...]:
    """Return micro-batches of different shapes: the heaviest first, the others from all over the run."""
    distinct = list({micro.shape: micro for micro in found}.values())
    heaviest = max(distinct, key=lambda micro: (micro.shape.tokens, micro.shape.targets))
    others = [micro for micro in distinct if micro is not heaviest]
    step = max(1, math.ceil(len(others) / MOST_PICKS))
    return (heaviest, *others[::step])


def _every(asked: int | str | None, steps: int) -> int:
    return asked if isinstance(asked, int) else max(1, steps // 10)


def _times(steps: int, every: int) -> int:
    """Return how often something is done that is due every so many steps, and at the last one."""
    return steps // every + (steps % every > 0)


def _saves(plan: Plan, steps: int, *, rows: int, batch_size: int) -> tuple[int, int]:
    """Return how many checkpoints and how many snapshots are written."""
    every = _every(plan.train.checkpoint_every, steps)
    due = _times(steps, every)
    if not plan.train.snapshots:
        return due, 0
    epochs = steps * batch_size // rows
    snapshots = epochs + (steps * batch_size % rows > 0)
    return due + sum((epoch * rows // batch_size) % every > 0 for epoch in range(1, epochs + 1)), snapshots


def _questions(plan: Plan, prepared: Prepared, train: "Split") -> dict[str, int]:
    from luthier.examples.store import Split

    test = Split(prepared.split("test"))
    rows = [test.encoded(number) for number in range(min(len(test), BATCH_ROWS))]
    if plan.evaluate is None or not rows:
        nothing = ("test_rows", "systems", "prompt_tokens", "answer_tokens", "most_new_tokens")
        return dict.fromkeys(nothing, 0) | {"rows_per_batch": 1}
    longest = max(len(row.ids) - row.prompt_tokens for row in map(train.encoded, range(min(len(train), 2000))))
    most = longest + max(MARGIN_TOKENS, longest // 4)
    asked = plan.evaluate.max_new_tokens
    return {
        "test_rows": min(len(test), plan.evaluate.max_rows),
        "systems": plan.seeds + len(plan.evaluate.baselines),
        "rows_per_batch": max(1, min(BATCH_ROWS, BATCH_TOKENS // max(1, max(row.prompt_tokens for row in rows)))),
        "prompt_tokens": sum(row.prompt_tokens for row in rows) // len(rows),
        "answer_tokens": max(len(row.ids) - row.prompt_tokens for row in rows),
        "most_new_tokens": asked if isinstance(asked, int) else most,
    }


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
