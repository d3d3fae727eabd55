"""All rules in the order they are asked: a rule may look at what earlier ones have settled."""

from typing import Protocol

from luthier.advise import machine, measuring, training
from luthier.advise.facts import Facts
from luthier.recipe import Advice, Recipe


class Rule(Protocol):
    """A pure function from the recipe so far and the facts to the value of one field."""

    def __call__(self, recipe: Recipe, facts: Facts, /) -> Advice:
        """Return the value and its reason."""


RULES: dict[str, Rule] = {
    "data.render": measuring.render,
    "data.format": measuring.data_format,
    "data.max_tokens": measuring.max_tokens,
    "train.adapter.alpha": training.alpha,
    "train.adapter.target_modules": training.target_modules,
    "train.method.pooling": training.pooling,
    "train.method.loss": training.loss,
    "train.epochs": training.epochs,
    "train.batch_size": training.batch_size,
    "train.learning_rate": training.learning_rate,
    "train.gradient_checkpointing": machine.gradient_checkpointing,
    "train.micro_batch_tokens": machine.micro_batch_tokens,
    "train.precision": machine.precision,
    "train.fast_step": machine.fast_step,
    "train.compile": machine.compiled,
    "train.checkpoint_every": training.checkpoint_every,
    "train.validate_every": training.validate_every,
    "train.threads": machine.threads,
    "evaluate.baselines": measuring.baselines,
    "evaluate.metrics": measuring.metrics,
    "evaluate.shots": measuring.shots,
    "evaluate.max_new_tokens": measuring.max_new_tokens,
}
