"""What each field of a training allows alone but not together with others."""

from collections.abc import Iterator
from typing import NamedTuple

from luthier.train.optimizers.spec import SgdSpec
from luthier.train.spec import BETAS, TrainSpec


class Conflict(NamedTuple):
    """One field that makes no sense beside another."""

    field: tuple[str, ...]
    """Its place within the recipe."""
    what: str
    hint: str


def conflicts(spec: TrainSpec, *, has_validation: bool) -> Iterator[Conflict]:
    """Yield what must not stand together."""
    name = spec.optimizer.name
    if spec.betas != BETAS and not spec.optimizer.takes_betas:
        hint = "write `train.optimizer.betas`" if name == "lion" else "leave `train.betas` out"
        yield Conflict(("train", "betas"), f"`train.betas` are AdamW's, and `{name}` does not use them", hint)
    if spec.learning_rate == "auto" and spec.optimizer.rate_share is None:
        hint = "write it yourself, for example 1e-3 for adafactor and 1e-2 for sgd"
        yield Conflict(("train", "learning_rate"), f"there is no rule for the learning rate of `{name}`", hint)
    if isinstance(spec.optimizer, SgdSpec) and spec.optimizer.nesterov and not spec.optimizer.momentum:
        what = "there is no momentum to look ahead by"
        yield Conflict(("train", "optimizer", "nesterov"), what, "set `train.optimizer.momentum` to 0.9")
    if spec.optimizer.averages and spec.schedule.name != "constant":
        what = f"`{name}` takes the place of a schedule, and `{spec.schedule.name}` is one"
        yield Conflict(("train", "schedule"), what, "write `train.schedule: constant`")
    if spec.optimizer.averages and spec.ema_decay is not None:
        what = f"`{name}` keeps an average of its own"
        yield Conflict(("train", "ema_decay"), what, "leave out `train.ema_decay`")
    if spec.schedule.watches and not has_validation:
        what = f"the schedule `{spec.schedule.name}` has no validation rows to watch"
        hint = "set `data.split.validation` to 0.1, or name `data.validation_path`"
        yield Conflict(("train", "schedule"), what, hint)
    if spec.loraplus_ratio is not None and spec.adapter.traits.peft_type != "LORA":
        what = f"`{spec.adapter.name}` trains no B matrices"
        yield Conflict(("train", "loraplus_ratio"), what, "leave it out, or train with `adapter: lora`")
