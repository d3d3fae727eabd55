"""Olive's workflow files (`olive run --config`), as a recipe."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from luthier.core.yaml import Document, Where
from luthier.jobs.doors.draft import Draft, Translated, file_place
from luthier.jobs.doors.finetune import DEFAULT_MODEL, task_option
from luthier.jobs.doors.hf import adapter, training_options
from luthier.jobs.doors.rows import Names, Rows, data_options

KEYS = ("model", "input_model", "data_configs", "passes", "training_config")
"""Top-level keys by which such a file is known."""
MODELS = ("pytorchmodel", "hfmodel")
PASSES = {"lora": "lora", "qlora": "qlora", "dora": "lora"}
NO_ADAPTERS = ("loha", "lokr")
"""Olive's passes that train what this house has no adapter for."""
ANSWERED = {
    "log_severity_level": "progress is shown on a terminal",
    "log_to_file": "every event is in the run's events.jsonl",
    "workflow_id": "a run is named after its folder",
    "cache_dir": "LUTHIER_CACHE names the cache",
    "clean_cache": "the cache is kept by content",
}
CONTAINERS = ("huggingfacecontainer", "datacontainer")


class OliveFile:
    """An Olive file in the making of a recipe."""

    def __init__(self, document: Document, file: Path) -> None:
        self.document, self.paths = document, dict[str, Where]()
        self.draft = Draft(file_place(file, document.line_of, self.paths))
        self.value: dict[str, Any] = document.value
        self.out: Path | None = None

    def translated(self, overrides: Sequence[str]) -> Translated:
        """Return the file as a recipe."""
        for key, value in self.value.items():
            if key in ("output_dir", "engine"):
                self._output(key, value)
            elif key in ANSWERED:
                self.draft.answer(key, ANSWERED[key])
            elif key not in KEYS:
                self.draft.unknown(str(key), [*KEYS, *ANSWERED, "output_dir"])
        self._model()
        self._data()
        self._passes()
        self._training("training_config", self.value.get("training_config"), ("training_config",))
        self.draft.set("export", ["adapter"], "passes")
        return self.draft.recipe(overrides)

    def _told(self, path: Where) -> str:
        """Return the name of a place in the file, and remember where it is."""
        name = ".".join(map(str, path))
        self.paths[name] = path
        return name

    def _block(self, path: Where, value: Any) -> dict[str, Any]:
        return self.draft.block(value, self._told(path))

    def _output(self, key: str, value: Any) -> None:
        block = value if isinstance(value, dict) else {"output_dir": value}
        for inner, entry in block.items():
            if inner == "output_dir":
                folder = self.draft.text(entry, self._told((key, inner)))
                self.out = Path(folder) if folder else None
            elif inner not in ANSWERED:
                name = self._told((key, inner))
                self.draft.refuse(name, "Luthier has no such setting of an engine", "leave it out")

    def _model(self) -> None:
        key = "input_model" if "input_model" in self.value else "model"
        block = self._block((key,), self.value.get(key))
        kind = str(block.get("type", MODELS[0]))
        if kind.lower() not in MODELS:
            name = self._told((key, "type"))
            self.draft.refuse(name, f"`{kind}` cannot be trained", "there is PyTorchModel and HfModel")
        inner = (key, "config") if "config" in block else (key,)
        settings = {k: v for k, v in self._block(inner, block.get("config", block)).items() if k != "type"}
        model = settings.pop("model_path", None)
        if model is None:
            self.draft.answer(key, DEFAULT_MODEL)
        else:
            self.draft.set("base_model", model, self._told((*inner, "model_path")))
        for name, value in settings.items():
            self._model_setting(name, value, (*inner, name))

    def _model_setting(self, name: str, value: Any, path: Where) -> None:
        told = self._told(path)
        if name == "task":
            task_option(self.draft, str(value), told)
        elif name in ("load_kwargs", "hf_config") and not value:
            self.draft.answer(told, "nothing is in it")
        else:
            self.draft.refuse(told, "Luthier has no such setting of a model", "leave it out")

    def _data(self) -> None:
        configs = self.value.get("data_configs")
        if not isinstance(configs, list) or not configs:
            self.draft.refuse("data_configs", "no data is named", "write a `data_configs` list with one data set")
            return
        if len(configs) > 1:
            why = "which of several data sets trains is not said here"
            self.draft.refuse(self._told(("data_configs", 1)), why, "keep the one to train on")
        place: Where = ("data_configs", 0)
        config = self._block(place, configs[0])
        kind = str(config.get("type", CONTAINERS[0]))
        if kind.lower() not in CONTAINERS:
            self.draft.refuse(self._told((*place, "type")), f"`{kind}` is not known", "there is HuggingfaceContainer")
        known = ("name", "type", "load_dataset_config", "pre_process_data_config")
        for key in config:
            if key not in known:
                self.draft.refuse(self._told((*place, key)), "it is not known here", f"there is {', '.join(known)}")
        self._rows(config, place)

    def _rows(self, config: Mapping[str, Any], place: Where) -> None:
        load_place, text_place = (*place, "load_dataset_config"), (*place, "pre_process_data_config")
        load = dict(self._block(load_place, config.get("load_dataset_config")))
        text = dict(self._block(text_place, config.get("pre_process_data_config")))
        for block in (load, text):
            if isinstance(block.get("params"), dict):
                block |= block.pop("params")
        files = self.draft.texts(load.pop("data_files", None), self._told((*load_place, "data_files")))
        rows = Rows(
            name=load.pop("data_name", None),
            files=tuple(files),
            train=load.pop("split", None),
            held_out=load.pop("eval_split", None),
            template=text.pop("text_template", None),
            subset=load.pop("subset", None),
        )
        places = [(*load_place, key) for key in ("data_name", "data_files", "split", "eval_split")]
        names = Names(
            *map(self._told, places), self._told((*text_place, "text_template")), self._told((*load_place, "subset"))
        )
        data_options(self.draft, rows, names)
        self._training("pre_process_data_config", {k: v for k, v in text.items() if k != "type"}, text_place)
        for key in load:
            if key == "trust_remote_code":
                self._training("load", {key: load[key]}, load_place)
            elif key != "type":
                self.draft.refuse(self._told((*load_place, key)), "it is not known here", "leave it out")

    def _passes(self) -> None:
        passes = self._block(("passes",), self.value.get("passes"))
        trained = 0
        for name, entry in passes.items():
            place: Where = ("passes", name)
            block = self._block(place, entry)
            kind = str(block.get("type", ""))
            if kind.lower() in NO_ADAPTERS:
                adapter(self.draft, kind.lower(), self._told((*place, "type")))
                continue
            if kind.lower() not in PASSES:
                why = f"a pass `{kind}` trains nothing"
                hint = "there is LoRA and QLoRA; `luthier export` converts and quantises what was trained"
                self.draft.refuse(self._told((*place, "type")), why, hint)
                continue
            trained += 1
            adapter(self.draft, PASSES[kind.lower()], self._told((*place, "type")))
            if kind.lower() == "dora":
                self.draft.set("train.adapter.dora", True, self._told((*place, "type")))
            inner = (*place, "config") if "config" in block else place
            settings = {k: v for k, v in self._block(inner, block.get("config", block)).items() if k != "type"}
            arguments = self._block((*inner, "training_args"), settings.pop("training_args", None))
            self._training(name, settings, inner)
            self._training(name, arguments, (*inner, "training_args"))
        if trained > 1:
            self.draft.refuse("passes", "several passes train one after the other", "keep one")

    def _training(self, _: str, options: Any, place: Where) -> None:
        block = self._block(place, options)
        known = {k: v for k, v in block.items() if not (k == "train_data_config" or k == "eval_data_config")}
        for key in block.keys() - known.keys():
            self.draft.answer(self._told((*place, key)), "the one data set of `data_configs` is taken")
        training_options(self.draft, known, said={key: self._told((*place, key)) for key in known})
