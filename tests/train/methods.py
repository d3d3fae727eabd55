"""One row per method for the tests of what holds for all of them: its Spec, its rows, and the model they are for.

A new method needs a row in METHODS, and no more.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.train import embedded
from tests.train.headed import prepare
from tests.train.made import make_prepared, spec_of
from tests.train.test_dpo import pairs_of
from tests.train.test_qa import prepare as asked
from tests.train.test_seq2seq import prepare as sourced

from luthier.core.artifacts import Prepared
from luthier.core.events import Event
from luthier.model.adapters.lora import LoraSpec
from luthier.train import room
from luthier.train.loop import Loop
from luthier.train.methods.classify.spec import ClassifySpec
from luthier.train.methods.dpo.spec import DpoSpec
from luthier.train.methods.embed.spec import EmbedSpec
from luthier.train.methods.extract.spec import ExtractSpec
from luthier.train.methods.qa.spec import QaSpec
from luthier.train.methods.regress.spec import RegressSpec
from luthier.train.methods.seq2seq.spec import Seq2SeqSpec
from luthier.train.methods.sft.spec import SftSpec
from luthier.train.spec import AnyMethod, TrainSpec


@dataclass(frozen=True)
class Tried:
    """A method, and how to prepare rows for it on a tiny model in an empty folder."""

    method: AnyMethod
    prepare: Callable[[Path], Prepared]
    rate: float = 1e-2
    is_fast: bool = False
    """Whether the fast step can run."""


METHODS: dict[str, Tried] = {
    "sft": Tried(SftSpec(), make_prepared, is_fast=True),
    "dpo": Tried(DpoSpec(), lambda folder: make_prepared(folder, rows=pairs_of, format="preference"), is_fast=True),
    "classify": Tried(ClassifySpec(), lambda folder: prepare(folder, "label")),
    "classify-many": Tried(ClassifySpec(start="drawn"), lambda folder: prepare(folder, "labels", "llama")),
    "classify-mean": Tried(ClassifySpec(pooling="mean"), lambda folder: prepare(folder, "label", "distilbert")),
    "regress": Tried(RegressSpec(), lambda folder: prepare(folder, "score", "llama"), rate=1e-3),
    "extract": Tried(ExtractSpec(), lambda folder: prepare(folder, "spans")),
    "embed": Tried(
        EmbedSpec(loss="in_batch_negatives", pooling="mean"), lambda folder: embedded.prepare(folder, "match")
    ),
    "embed-triplet": Tried(EmbedSpec(loss="triplet"), lambda folder: embedded.prepare(folder, "triplet", "llama")),
    "qa": Tried(QaSpec(), lambda folder: asked(folder, max_tokens=36)),
    "seq2seq": Tried(Seq2SeqSpec(), lambda folder: sourced(folder, "t5")),
}


FORMATS = ("chat", "preference", "labelled", "multi_labelled", "scored", "tagged", "triplets", "squad")
"""Shapes of rows, of which no method takes all."""


def spec_for(tried: Tried, **changes: Any) -> TrainSpec:
    """Return a short training with a method."""
    usual = {"method": tried.method, "adapter": LoraSpec(r=4), "steps": 6, "batch_size": 8, "micro_batch_tokens": 400}
    usual |= {"checkpoint_every": 3, "validate_every": 2, "learning_rate": tried.rate, "fast_step": tried.is_fast}
    return spec_of(**(usual | changes))


class _ReadyError(Exception):
    """Says that a loop is ready to run."""


def loop_of(spec: TrainSpec, given: Prepared, out: Path, *, seed: int = 7) -> Loop:
    """Return the loop that the training room makes, before it runs."""
    made: list[Loop] = []

    def stop(loop: Loop) -> bool:
        made.append(loop)
        raise _ReadyError

    with patch.object(Loop, "run", stop):
        try:
            room.run(spec, given, out, list[Event]().append, seed=seed)
        except _ReadyError:
            return made[0]
    raise AssertionError("the room ends without a loop")
