"""What the owner of a service can set, in `service.yaml` in its home."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, ValidationError

from luthier.core.errors import RecipeError
from luthier.core.files import write_atomic
from luthier.core.spec import Spec
from luthier.core.yaml import Document, read_yaml
from luthier.jobs.service.home import PRIVATE_FILE
from luthier.recipe_io.explain import closest
from luthier.serve.spec import ServeSpec
from luthier.train.spec import TrainSpec

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
Name = Annotated[str, StringConstraints(pattern=rf"^{NAME.pattern}$")]
HINT = "delete the file to start again from one with all settings explained"
DEFAULT = """\
# Luthier's service. Every line is optional; what is left out has the value shown. Read when the server starts.

# Base models on offer: the name clients use → the recipe's base_model (a folder, a .gguf file, a hub id).
bases:
  smollm2-135m-instruct: smollm2-135m-instruct

# Exported models on offer, each in its own engine; FOLDER#NAME is one of several adapters.
# exports:
#   tones: runs/demo/export/onnx-int4

# Models of other servers that speak OpenAI's API.
# remotes:
#   big: {url: http://127.0.0.1:8000/v1, model: my-model, tokenizer: smollm2-135m-instruct, key_env: BIG_KEY}

# Names that scripts already use → a name on offer. Replies name what really ran.
# aliases:
#   gpt-4o-mini-2024-07-18: smollm2-135m-instruct

# The third part of a tuned model's name: ft:base:organization:suffix:id
organization: luthier

# Jobs that train at the same time, each in a process of its own.
jobs_at_once: 1

# Seconds without a sign of life after which a job's process is ended and the job goes on in a new one.
lease_s: 30

# How jobs train, in the words of a recipe's `train:`; what a client asks for comes first.
# train:
#   adapter: {name: lora, r: 16}
#   learning_rate: auto

# How models are served.
# serve:
#   rows: 32
#   queue: 256
"""


class Remote(Spec):
    """A model on another server that speaks OpenAI's API: vLLM, llama.cpp's, Ollama, another Luthier."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://")]
    """Its address, `/v1` included."""
    model: str
    """The model's name there."""
    tokenizer: str
    """The base model whose tokenizer and template make the prompts: a folder, a name, a hub id."""
    key_env: str | None = None
    """The environment variable that holds its key."""


class ServiceSettings(Spec):
    """What a service offers and how much it may take."""

    bases: dict[Name, str] = {"smollm2-135m-instruct": "smollm2-135m-instruct"}
    """Base models on offer: the name clients use, and the recipe's `base_model` behind it."""
    exports: dict[Name, str] = {}
    """Exported models on offer: the name clients use, and the folder; `FOLDER#NAME` is one of its several adapters."""
    remotes: dict[Name, Remote] = {}
    """Models of other servers on offer."""
    aliases: dict[Name, Name] = {}
    """Names that scripts already use, each for a name on offer; replies name what really ran."""
    organization: Name = "luthier"
    """The third part of a tuned model's name."""
    jobs_at_once: int = Field(1, ge=1, le=64)
    """Jobs that train at the same time, each in a process of its own."""
    lease_s: float = Field(30.0, ge=0.5, le=3600)
    """Seconds without a sign of life after which a job's process is ended and the job goes on in a new one."""
    serve: ServeSpec = ServeSpec()
    """How models are served."""
    train: TrainSpec = TrainSpec()
    """How jobs train; what a client asks for comes first."""

    @property
    def offered(self) -> dict[str, "str | Remote"]:
        """Everything on offer that is no tuned model of this home, and what is behind it."""
        return {**self.bases, **self.exports, **self.remotes}


def write_default(path: Path) -> None:
    """Write a settings file that explains itself."""
    write_atomic(path, DEFAULT)
    path.chmod(PRIVATE_FILE)


def read_settings(path: Path) -> ServiceSettings:
    """Read a settings file; the first thing wrong in it is an error with its line."""
    document = read_yaml(path)
    value = document.value if document.value is not None else {}
    if not isinstance(value, dict):
        raise RecipeError("these are no settings of a service", where={"file": path}, hint=HINT)
    try:
        settings = ServiceSettings.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise _explained(error, document, path) from error
    if wrong := _contradiction(settings):
        raise RecipeError(wrong, where={"file": path}, hint=HINT)
    bases = {name: _from(path.parent, base) for name, base in settings.bases.items()}
    exports = {name: _from(path.parent, export) for name, export in settings.exports.items()}
    return settings.model_copy(update={"bases": bases, "exports": exports})


def with_models(settings: ServiceSettings, models: Sequence[str], engine: str | None) -> ServiceSettings:
    """Return the settings with exports given as `NAME=FOLDER`, and with an engine that must run the models."""
    exports = dict(settings.exports)
    for text in models:
        name, _, folder = text.partition("=")
        if not NAME.fullmatch(name) or not folder:
            hint = "for example `--model tones=runs/demo/export/onnx-int4`"
            raise RecipeError("this is no NAME=FOLDER", where={"--model": text}, hint=hint)
        exports[name] = str(Path(folder).expanduser().absolute())
    try:
        serve = ServeSpec.model_validate({**settings.serve.model_dump(), "engine": engine or settings.serve.engine})
    except ValidationError as error:
        hint = "it is transformers, onnx or llama.cpp"
        raise RecipeError(f"there is no engine `{engine}`", where={"option": "--engine"}, hint=hint) from error
    made = settings.model_copy(update={"exports": exports, "serve": serve})
    if wrong := _contradiction(made):
        raise RecipeError(wrong, where={"option": "--model"}, hint="give it another name")
    return made


def _from(folder: Path, base: str) -> str:
    """Return a folder or file beside the settings by its whole path; other names mean the same anywhere."""
    place, mark, adapter = base.partition("#")
    beside = folder / place
    return f"{beside.absolute()}{mark}{adapter}" if beside.exists() else base


def _explained(error: ValidationError, document: Document, path: Path) -> RecipeError:
    detail = min(error.errors(include_url=False), key=lambda detail: document.line_of(detail["loc"]) or 0)
    where: dict[str, object] = {"file": path}
    line = document.line_of(detail["loc"])
    where |= {"line": line} if line else {}
    name = ".".join(str(part) for part in detail["loc"] if part != "[key]")
    if detail["type"] != "extra_forbidden":
        return RecipeError(f"`{name}` cannot be used", where=where, why=detail["msg"], hint=HINT)
    names = _names_beside(detail["loc"])
    close = closest(str(detail["loc"][-1]), names)
    hint = f"did you mean `{close}`?" if close else f"it takes {', '.join(names)}"
    return RecipeError(f"unknown key `{name}`", where=where, hint=hint)


def _names_beside(loc: tuple[int | str, ...]) -> list[str]:
    blocks = {"serve": ServeSpec, "train": TrainSpec}
    block: type[Spec] = blocks.get(str(loc[0]), ServiceSettings) if len(loc) > 1 else ServiceSettings
    return list(block.model_fields)


def _contradiction(settings: ServiceSettings) -> str | None:
    kinds = (settings.bases, settings.exports, settings.remotes)
    names = [name for kind in kinds for name in kind]
    if twice := next((name for name in names if names.count(name) > 1), None):
        return f"two models on offer are called `{twice}`"
    for name, base in settings.aliases.items():
        if base not in names:
            return f"the alias `{name}` names `{base}`, which is not among `bases`"
        if name in names:
            return f"`{name}` is both an alias and a base"
    if settings.train.adapter.name != "lora":
        return "`train.adapter` must be `lora`: tuned models are served as adapters beside one base"
    if not settings.train.adapter.is_plain:
        return "`train.adapter` must be plain LoRA: with `dora`, patterns or `modules_to_save` it is served merged only"
    if settings.train.steps is not None or settings.train.early_stopping is not None:
        return "jobs count epochs: `train.steps` and `train.early_stopping` cannot be set here"
    return None
