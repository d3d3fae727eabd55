"""How much memory and disk a plan takes, from what was measured here."""

import math

from luthier.advise.estimate.measured import Measured
from luthier.advise.estimate.work import Size, Work

CACHED_SHAPES = 28
"""After about so many micro-batches of different shapes two thirds of the growth are over, as measured."""
VALUE_BYTES = 4
CACHES = 2
"""Keys and values; and as much again while a longer cache is written beside the old one."""
BATCH_TOKENS = 4096
"""Prompt tokens that an evaluation computes at once."""
SMALL_BYTES = 500_000
"""Events, metrics, reports and tokenizer files."""


def memory_bytes(work: Work, measured: Measured, sampled_rows: int) -> dict[str, int]:
    """Return the highest memory of each part of the run, which all happen in one process."""
    evaluate = measured.evaluate_bytes + more_answers_bytes(work, measured.steps, sampled_rows)
    parts = {"training": measured.train_bytes, "evaluation": evaluate, "export": measured.export_bytes}
    done = {"training": True, "evaluation": bool(measured.samples), "export": measured.export is not None}
    kept = more_shapes_bytes(work, measured.steps.memory_bytes)
    return {part: size + kept for part, size in parts.items() if done[part]}


def more_shapes_bytes(work: Work, memory: tuple[int, ...]) -> int:
    """Return by how much the libraries' caches will still grow: each shape leaves its kernels, until they are full."""
    tried, shapes = len(memory) - 1, len(set(work.micro_batches)) * work.stretch
    grown = max(0, memory[-1] - memory[0])
    return int(grown * max(0.0, _filled(shapes) / _filled(tried) - 1)) if tried else 0


def _filled(shapes: float) -> float:
    return 1 - math.exp(-shapes / CACHED_SHAPES)


def more_answers_bytes(work: Work, size: Size, sampled_rows: int) -> int:
    """Return what answering a whole batch of questions takes beyond the few that were measured."""
    if not work.test_rows:
        return 0
    rows = min(work.rows_per_batch, work.test_rows) - sampled_rows
    tokens = max(0, rows) * (work.prompt_tokens + work.most_new_tokens)
    return min(tokens, BATCH_TOKENS) * size.layers * size.hidden * CACHES * VALUE_BYTES // 2


def disk_bytes(work: Work, measured: Measured) -> dict[str, int]:
    """Return the bytes of the finished run folder, by part."""
    steps, export = measured.steps, measured.export
    return {
        "data": work.data_bytes,
        "checkpoints": work.trainings * work.kept_checkpoints * steps.checkpoint_bytes,
        "weights": work.trainings * (1 + work.kept_snapshots) * steps.weights_bytes,
        "exports": export.bytes if export else 0,
        "reports": SMALL_BYTES,
    }
