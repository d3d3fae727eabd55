"""AutoTrain's files, as a recipe."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from luthier.core.yaml import Document, Where
from luthier.jobs.doors.draft import Draft, Translated, file_place
from luthier.jobs.doors.hf import adapter, as_bool, training_options
from luthier.jobs.doors.rows import Names, Rows, data_options

TASKS = {
    "llm": "sft",
    "llm-sft": "sft",
    "llm-generic": "sft",
    "llm-dpo": "dpo",
    "text-classification": "classify",
    "text_classification": "classify",
}
BUILT_IN = ("sft", "dpo")
RENAMED = {
    "epochs": "num_train_epochs",
    "lr": "learning_rate",
    "batch_size": "per_device_train_batch_size",
    "gradient_accumulation": "gradient_accumulation_steps",
    "scheduler": "lr_scheduler_type",
    "optimizer": "optim",
}
ANSWERED = {
    "padding": "no pads are computed",
    "use_flash_attention_2": "the attention of the fast step is used",
    "attn_implementation": "the attention of the fast step is used",
    "unsloth": "the fast step of this house is used",
    "auto_find_batch_size": "rows at once follow the measured memory, and never change the result",
    "lora": "LoRA is meant by `peft`",
}
COLUMNS = {
    "sft": ("text_column",),
    "dpo": ("prompt_text_column", "text_column", "rejected_text_column"),
    "classify": ("text_column", "target_column"),
}
"""The columns that a task uses; what else is mapped would be ignored, and is refused."""
PLAIN_COLUMNS = ("text", "messages", "conversations")
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
HUB_HINT = "nothing is uploaded by a run: set it to false, and upload the folder in `export` yourself"


def is_autotrain(value: Any) -> bool:
    """Tell whether a file is AutoTrain's, by its keys."""
    return isinstance(value, dict) and "task" in value and "base_model" in value


class AutoTrainFile:
    """An AutoTrain file in the making of a recipe."""

    def __init__(self, document: Document, file: Path) -> None:
        self.document, self.file, self.paths = document, file, dict[str, Where]()
        self.draft = Draft(file_place(file, document.line_of, self.paths))
        self.value: dict[str, Any] = document.value
        name = self.draft.text(self.value.get("project_name"), "project_name")
        self.out = Path(name) if name else None

    def translated(self, overrides: Sequence[str]) -> Translated:
        """Return the file as a recipe."""
        known = ("task", "base_model", "project_name", "log", "backend", "data", "params", "hub")
        for key in self.value:
            if key not in known:
                self.draft.unknown(str(key), known)
        self.draft.set("base_model", self.value["base_model"], "base_model")
        self._surroundings()
        method = self._task()
        if method is not None:
            self._data(method)
        self._params(method)
        return self.draft.recipe(overrides)

    def _told(self, *path: str) -> str:
        name = ".".join(map(str, path))
        self.paths[name] = path
        return name

    def _block(self, key: str) -> dict[str, Any]:
        return self.draft.block(self.value.get(key), key)

    def _task(self) -> str | None:
        task = str(self.value["task"]).replace(":", "-")
        if task not in TASKS:
            why, hint = f"there is no training for `{task}` here", f"there is {', '.join(TASKS)}"
            self.draft.refuse("task", why, hint)
            return None
        method = TASKS[task]
        if method in BUILT_IN:
            self.draft.set("train.method.name", method, "task")
        else:
            self.draft.answer("task", "labels are learned as answers, and measured by accuracy and macro-F1")
        return method

    def _surroundings(self) -> None:
        if (log := self.value.get("log")) is not None:
            training_options(self.draft, {"report_to": log}, said={"report_to": "log"})
        backend = self.value.get("backend", "local")
        if str(backend) not in ("local", "local-cli"):
            self.draft.refuse("backend", f"`{backend}` is not this machine", "set it to local")
        for key, value in self._block("hub").items():
            name = self._told("hub", key)
            if key == "push_to_hub" and as_bool(self.draft, value, name):
                self.draft.refuse(name, "it would send your model away", HUB_HINT)
            elif key in ("username", "token"):
                self.draft.answer(name, "not read: nothing is uploaded")
            elif key != "push_to_hub":
                self.draft.refuse(name, "it is not known here", "leave it out")

    def _data(self, method: str) -> None:
        data = self._block("data")
        named = {key: data.pop(key, None) for key in ("path", "train_split", "valid_split")}
        if any(self.draft.text(value, self._told("data", key)) != value for key, value in named.items()):
            return
        path, train, held_out = named.values()
        columns = self.draft.block(data.pop("column_mapping", None), self._told("data", "column_mapping"))
        self._template(data.pop("chat_template", None))
        for key in data:
            self.draft.refuse(self._told("data", key), "it is not known here", "leave it out")
        if path is None:
            self.draft.refuse(self._told("data", "path"), "no data is named", "name a hub data set or a folder")
            return
        folder = Path(str(path)) if Path(str(path)).is_absolute() else self.file.parent / str(path)
        if folder.is_dir():
            self._files(folder, train or "train", held_out)
        else:
            name = str(folder) if folder.is_file() else str(path)
            names = Names(*(self._told("data", key) for key in ("path", "path", "train_split", "valid_split")))
            data_options(self.draft, Rows(name=name, train=train, held_out=held_out), names)
        self._columns(method, columns)

    def _files(self, folder: Path, train: str, held_out: str | None) -> None:
        """Take `train.csv` and the like out of a folder, as AutoTrain does."""
        for path, split, key in (
            ("data.path", train, "train_split"),
            ("data.validation_path", held_out, "valid_split"),
        ):
            if split is None:
                continue
            found = [folder / f"{split}{suffix}" for suffix in SUFFIXES if (folder / f"{split}{suffix}").is_file()]
            if found:
                self.draft.set(path, str(found[0]), self._told("data", key))
            else:
                why = f"there is no {' or '.join(split + suffix for suffix in SUFFIXES)} in {folder.name}"
                self.draft.refuse(self._told("data", key), why, "name a split whose file is there")

    def _template(self, template: Any) -> None:
        if template is None or template == "none":
            return
        name = self._told("data", "chat_template")
        if template == "tokenizer":
            self.draft.answer(name, "the model's own template, as always here")
        else:
            self.draft.refuse(name, f"a model is never given the foreign template `{template}`", "set it to tokenizer")

    def _columns(self, method: str, columns: dict[str, Any]) -> None:
        named = (
            (key, self.draft.text(value, self._told("data", "column_mapping", key))) for key, value in columns.items()
        )
        columns = {key: name for key, name in named if name is not None}
        usual = {"dpo": {"prompt_text_column": "prompt", "text_column": "chosen", "rejected_text_column": "rejected"}}
        text, target = columns.get("text_column"), columns.get("target_column")
        for key, column in columns.items():
            name = self._told("data", "column_mapping", key)
            if method == "dpo" and usual["dpo"].get(key, column) != column:
                wanted = usual["dpo"][key]
                self.draft.refuse(
                    name, f"pairs are read from columns of fixed names, not `{column}`", f"rename it `{wanted}`"
                )
            elif key not in COLUMNS[method]:
                known = any(key in its for its in COLUMNS.values())
                why = f"a task of `{method}` does not use it" if known else "it is not known here"
                self.draft.refuse(name, why, f"there is {' and '.join(COLUMNS[method])}")
        if method == "classify" and columns and not (text and target):
            name = self._told("data", "column_mapping")
            self.draft.refuse(name, "a text and its label are needed", "name text_column and target_column")
        if method == "classify" and text and target:
            template = f"{{{text}}}\nLabel: {{{target}}}"
            self.draft.set("data.text_template", template, self._told("data", "column_mapping", "text_column"))
        elif method == "sft" and text and text not in PLAIN_COLUMNS:
            self.draft.set("data.text_template", f"{{{text}}}", self._told("data", "column_mapping", "text_column"))

    def _params(self, method: str | None) -> None:
        params = self._block("params")
        peft = params.pop("peft", params.pop("use_peft", None))
        quantization = params.pop("quantization", None)
        if method is not None:
            self._adapter(peft, quantization)
        self._lengths(params)
        merged = params.pop("merge_adapter", None)
        if merged is not None:
            on = as_bool(self.draft, merged, self._told("params", "merge_adapter"))
            self.draft.set("export", ["merged"] if on else ["adapter"], "params.merge_adapter")
        if (off := params.pop("disable_gradient_checkpointing", None)) is not None:
            name = self._told("params", "disable_gradient_checkpointing")
            if as_bool(self.draft, off, name):
                self.draft.set("train.gradient_checkpointing", False, name)
            else:
                self.draft.answer(name, "activations are recomputed where memory asks for it")
        if (beta := params.pop("dpo_beta", None)) is not None:
            self._dpo_beta(beta, method)
        if (ends := params.pop("add_eos_token", None)) is not None:
            name = self._told("params", "add_eos_token")
            if as_bool(self.draft, ends, name):
                self.draft.answer(name, "the end of an answer is always learned")
            else:
                self.draft.refuse(name, "a model that never learns to end would answer without end", "set it to true")
        options: dict[str, Any] = {}
        said: dict[str, str] = {}
        for key, value in params.items():
            name = self._told("params", key)
            if key in ANSWERED:
                self.draft.answer(name, ANSWERED[key])
            else:
                options[RENAMED.get(key, key)], said[RENAMED.get(key, key)] = value, name
        training_options(self.draft, options, said=said)

    def _dpo_beta(self, beta: Any, method: str | None) -> None:
        name = self._told("params", "dpo_beta")
        if method == "dpo":
            self.draft.set("train.method.beta", beta, name)
        else:
            self.draft.refuse(name, "it is of the task llm-dpo", "leave it out")

    def _adapter(self, peft: Any, quantization: Any) -> None:
        named = self._told("params", "peft")
        on = peft is None or as_bool(self.draft, peft, named)
        if quantization in (None, "none"):
            adapter(self.draft, "lora" if on else "full", named)
            if not on:
                self.draft.set("export", ["merged"], named)
        elif quantization == "int4" and on:
            adapter(self.draft, "qlora", self._told("params", "quantization"))
        else:
            why = f"a base in `{quantization}` is not trained on" if on else "all weights cannot be trained in few bits"
            self.draft.refuse(self._told("params", "quantization"), why, "set it to none, or to int4 with peft")
        if peft is None:
            self.draft.answer(named, "LoRA, which Luthier trains where nothing is said")

    def _lengths(self, params: dict[str, Any]) -> None:
        """Take the shorter of the two lengths; AutoTrain cuts rows at it, and so does this recipe."""
        found = {key: params.pop(key) for key in ("block_size", "model_max_length") if params.get(key) is not None}
        lengths = {key: value for key, value in found.items() if type(value) is int and value > 0}
        for key in found.keys() - lengths.keys():
            self.draft.refuse(self._told("params", key), f"`{found[key]}` is no number of tokens", "a whole number")
        if lengths:
            shortest = min(lengths, key=lambda key: lengths[key])
            self.draft.set("data.max_tokens", lengths[shortest], self._told("params", shortest))
            self.draft.set("data.too_long", "cut", self._told("params", shortest))
