"""Gather the facts that advice is drawn from: a look at the rows, at the model, at the machine."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.advise.facts import DataFacts, Facts, MachineFacts, ModelFacts
from luthier.core.artifacts import Base
from luthier.core.events import Emit, Event
from luthier.data.spec import DataSpec
from luthier.recipe import Recipe
from luthier.train.spec import AnyMethod, is_seq2seq

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from luthier.data.look import Look

COMPILERS = ("c++", "g++", "clang++")


def gather(recipe: Recipe, base: Base, emit: Emit) -> Facts:
    """Return everything the rules may ask about."""
    emit(Event(room="plan", kind="note", message="looking at data, model and machine"))
    model, data = model_facts(recipe, base), data_of(recipe, base)
    return Facts(data=data_facts(data, base, context=model.context_tokens), model=model, machine=machine_facts())


def data_of(recipe: Recipe, base: Base) -> DataSpec:
    """Return how the rows are read: as raw text, as source and target, or as turns of a conversation."""
    data, method = recipe.data, recipe.train.method
    if data.render == "auto":
        data = data.model_copy(update={"render": _render(method, base)})
    # A number beside a text may be anything; this method says what it is.
    if data.format == "auto" and method.heads == ("score",):
        data = data.model_copy(update={"format": "scored"})
    return data


def _render(method: AnyMethod, base: Base) -> str:
    if is_seq2seq(method) or base.kind == "encoder-decoder":
        return "source"
    return "text" if method.heads or base.kind == "encoder" else "chat"


def data_facts(spec: DataSpec, base: Base, *, context: int) -> DataFacts:
    """Count rows, and tokens of the first ones, and estimate how many rows are left to train on."""
    from luthier.data.look import look
    from luthier.data.preparing import tokens_of

    seen = look(spec, encode=tokens_of(spec, base).encode)
    most = context if spec.max_tokens == "auto" else spec.max_tokens
    return DataFacts(
        rows=training_rows(spec, seen),
        has_validation=bool(spec.split.validation or spec.validation_path),
        format=seen.format,
        answer_kind=seen.answer_kind,
        labels=len(seen.labels),
        mean_tokens=min(seen.mean_tokens or 1.0, most),
        longest_tokens=max(1, min(seen.longest_tokens or 1, most)),
        longest_answer_tokens=max(1, min(seen.longest_answer_tokens or 1, most)),
        complete=seen.complete,
    )


def training_rows(spec: DataSpec, seen: "Look") -> int:
    """Return how many rows the held-out shares leave, as far as they were counted."""
    validation = 0 if spec.validation_path else spec.split.validation
    test = 0 if spec.test_path else spec.split.test
    return max(1, round(seen.rows["train"] * (1 - validation - test)))


def model_facts(recipe: Recipe, base: Base) -> ModelFacts:
    """Read the config, build the model without memory to see its layers, and measure one step where memory matters."""
    import torch
    from transformers import AutoConfig

    from luthier.model.adapter import is_linear
    from luthier.model.checks import pools_mean
    from luthier.model.load import CLASSES, context_length

    config = AutoConfig.from_pretrained(base.folder, local_files_only=True)
    with torch.device("meta"):
        model = CLASSES[base.kind].from_config(config)
    head = model.get_output_embeddings()
    linear = {name.rsplit(".", 1)[-1] for name, part in model.named_modules() if is_linear(part) and part is not head}
    return ModelFacts(
        parameters=model.num_parameters(),
        context_tokens=context_length(base.folder),
        linear_layers=tuple(sorted(linear)),
        layers=_text(config).num_hidden_layers,
        hidden=_text(config).hidden_size,
        activation_bytes_per_token=_activation_bytes(recipe, base.folder),
        pools_mean=pools_mean(base.folder),
    )


def _text(config: "PretrainedConfig") -> "PretrainedConfig":
    return config.get_text_config()


def _activation_bytes(recipe: Recipe, folder: Path) -> float:
    """Measure on the model itself what a step keeps per token; not needed where the recipe sets the micro-batch."""
    train = recipe.train
    if train.micro_batch_tokens != "auto" and train.gradient_checkpointing != "auto":
        return 1.0
    from luthier.model.headcard import HeadCard
    from luthier.model.headed import load_headed
    from luthier.model.headstep import HeadStep
    from luthier.model.load import load_model
    from luthier.model.seq2seq import plain_step
    from luthier.model.step import FastStep, StepModel, why_plain
    from luthier.model.vectors import VectorStep
    from luthier.train.memory import activation_bytes_per_token

    # How many labels the head will have is not known yet; its few numbers hardly count.
    card = HeadCard(kind=train.method.heads[0], labels=("a", "b"), tokens=1) if train.method.heads else None
    base = load_headed(folder, card, seed=recipe.seed) if card else load_model(folder)
    model: PreTrainedModel = train.adapter.build().attach(base, seed=recipe.seed)
    step: StepModel
    if card:
        step = VectorStep(model, card) if card.is_vector else HeadStep(model, card)
    else:
        step = FastStep(model) if train.fast_step and why_plain(model) is None else plain_step(model)
    vocabulary = model.get_input_embeddings().num_embeddings
    return activation_bytes_per_token(step, vocabulary=vocabulary)


def machine_facts() -> MachineFacts:
    """Ask the hardware."""
    from luthier.model.device import hardware

    found = hardware()
    return MachineFacts(
        cores=found.cores,
        available_bytes=found.available_bytes,
        accelerator=found.accelerator,
        fast_dtype=found.fast_dtype,
        fast_dtype_because=found.fast_dtype_because,
        has_compiler=compiler() is not None,
    )


def compiler() -> str | None:
    """Return the C++ compiler that `torch.compile` would find, if any."""
    names = [os.environ.get("CXX", ""), *COMPILERS]
    return next((found for name in names if name and (found := shutil.which(name))), None)
