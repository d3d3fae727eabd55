"""Olive's `finetune`, as a recipe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from luthier.jobs.doors.draft import Draft, Translated
from luthier.jobs.doors.hf import adapter, training_options
from luthier.jobs.doors.rows import Names, Rows, data_options
from luthier.recipe_io.explain import closest

DEFAULT_MODEL = "the embedded smollm2-135m-instruct, since no model is named"
TASKS: dict[str, list[str] | None] = {
    "classification": None,
    "text-classification": None,
    "generation": None,
    "text-generation": None,
    "extraction": ["entity_f1"],
    "ner": ["entity_f1"],
    "token-classification": ["entity_f1"],
    "summarization": ["rouge_l"],
    "translation": ["chrf", "bleu"],
    "question-answering": ["exact_match", "token_f1"],
}
"""What `--task_name` measures beside perplexity; where nothing is named, the kind of answers decides."""


@dataclass(frozen=True)
class Finetune:
    """The options of `finetune`."""

    model: str | None = None
    method: str = "lora"
    task: str | None = None
    rows: Rows = Rows()
    training: Mapping[str, Any] = field(default_factory=dict)
    """Hugging Face's training arguments, and those of LoRA."""


def finetune(asked: Finetune, overrides: Sequence[str] = ()) -> Translated:
    """Return the recipe that `finetune` asks for."""
    draft = Draft(lambda name: {"option": f"--{name}"})
    if asked.model:
        draft.set("base_model", asked.model, "model_name_or_path")
    else:
        draft.answer("model_name_or_path", DEFAULT_MODEL)
    adapter(draft, asked.method, "method")
    data_options(draft, asked.rows, Names())
    task_option(draft, asked.task, "task_name")
    training_options(draft, asked.training)
    draft.set("export", ["adapter"], "output_path")
    return draft.recipe(overrides)


def task_option(draft: Draft, task: str | None, name: str) -> None:
    """Set the metrics of a task, where its name tells of any."""
    if task is None:
        return
    if task not in TASKS:
        close = closest(task, list(TASKS))
        hint = f"did you mean `{close}`?" if close else "leave it out: what is measured follows from the answers"
        draft.refuse(name, f"`{task}` is none of {', '.join(TASKS)}", hint)
        return
    metrics = TASKS[task]
    if metrics is None:
        draft.answer(
            name, f"`{task}`: what is measured follows from the rows' answers: a closed set of them is classification"
        )
    else:
        draft.set("evaluate.metrics", metrics, name)
