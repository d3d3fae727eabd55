"""The contract: Recipe (what a person asks) and Plan (what will happen, each value with its reason)."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from luthier.core.spec import Spec
from luthier.data.spec import DataSpec
from luthier.evaluate.spec import EvaluateSpec
from luthier.export.spec import FormEntry
from luthier.train.spec import TrainSpec

TrackerName = Literal["tensorboard", "mlflow", "wandb", "trackio"]


class Recipe(Spec):
    """One fine-tune from data to a measured, exported model."""

    base_model: str = "smollm2-135m-instruct"
    """The embedded model's name, a hub id, a local folder, or a `.gguf` file."""
    data: DataSpec
    """The rows."""
    train: TrainSpec = TrainSpec()
    """The training."""
    evaluate: EvaluateSpec | None = EvaluateSpec()
    """The measurement; null leaves it out."""
    export: tuple[FormEntry, ...] = ("merged",)
    """The forms to write at the end, each certified: a name, or a mapping with `name` and its options."""
    trackers: tuple[TrackerName, ...] = ("tensorboard",)
    """Who is told what training measures, besides `metrics.jsonl`; none of them needs a network."""
    seed: int = Field(7, ge=0, lt=2**31)
    """Seed of splits, data order and every draw."""
    seeds: int = Field(1, ge=1, le=20)
    """Trainings with seeds of their own, counted on from `seed`; with several, each comparison holds their spread."""


class Advice(BaseModel):
    """A value for one field of the recipe, and why."""

    model_config = ConfigDict(frozen=True)

    path: str
    """Dotted path of the field: `train.learning_rate`."""
    value: object
    because: str


class Reason(BaseModel):
    """Where one value of the plan comes from."""

    model_config = ConfigDict(frozen=True)

    path: str
    source: Literal["recipe", "default", "resolved"]
    because: str = ""


class Plan(Recipe):
    """A recipe with no `auto` left; `luthier run plan.yaml` does the same again."""

    reasons: tuple[Reason, ...] = ()
    """Where each value comes from."""
