"""Fetch a model from the Hugging Face hub: its safetensors and small files, nothing else."""

from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, HTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from luthier.core.errors import ModelError
from luthier.core.events import Emit, Event
from luthier.model.checks import PICKLE_SUFFIXES, check_config

SMALL_FILES = (".json", ".model", ".txt", ".jinja", ".md")
TIMEOUT_S = 20.0
TOKEN_HINT = "for a private or gated model, set HF_TOKEN to a token that may read it"  # noqa: S105  (a sentence)


def fetch(name: str, emit: Emit) -> Path:
    """Return the folder of a hub model, downloaded or already here; its code and pickles are never fetched."""
    try:
        info = HfApi().model_info(name, timeout=TIMEOUT_S)
    except (GatedRepoError, RepositoryNotFoundError, HTTPError, OSError) as error:
        return _without_network(name, error)
    files = sorted(file.rfilename for file in info.siblings or ())
    wanted = _weights(name, files)
    small = [file for file in files if "/" not in file and file.endswith(SMALL_FILES)]
    try:
        check_config(Path(snapshot_download(name, revision=info.sha, allow_patterns=small)))
        emit(Event(room="model", kind="start", message=f"downloading {name}", data={"files": wanted}))
        return Path(snapshot_download(name, revision=info.sha, allow_patterns=[*small, *wanted]))
    except (HTTPError, LocalEntryNotFoundError, OSError) as error:
        why = str(error).splitlines()[0]
        hint = f"run again to go on with the download; {TOKEN_HINT}"
        raise ModelError("the download of the model failed", where={"model": name}, why=why, hint=hint) from error


def _weights(name: str, files: list[str]) -> list[str]:
    top = [file for file in files if "/" not in file]
    # `consolidated.safetensors` is the same weights once more, in another library's layout.
    weights = [file for file in top if file.endswith(".safetensors") and not file.startswith("consolidated")]
    if weights:
        return weights
    pickles = [file for file in top if file.endswith(PICKLE_SUFFIXES)]
    why = f"{pickles[0]} is a pickle, which can run code when it is opened" if pickles else "it has no *.safetensors"
    hint = "take a model that has safetensors, or convert it where you trust it"
    raise ModelError("the model's weights are not safetensors", where={"model": name}, why=why, hint=hint)


def _without_network(name: str, error: Exception) -> Path:
    """Return the copy fetched earlier, or explain why there is none."""
    if isinstance(error, GatedRepoError):
        hint = f"accept its licence at https://huggingface.co/{name}; {TOKEN_HINT}"
        raise ModelError("this model is gated", where={"model": name}, hint=hint) from error
    if isinstance(error, RepositoryNotFoundError):
        why = "there is no such folder here, and no such model on the hub that you may see"
        raise ModelError("no such model", where={"model": name}, why=why, hint=TOKEN_HINT) from error
    try:
        folder = Path(snapshot_download(name, local_files_only=True))
        check_config(folder)
        return folder
    except (LocalEntryNotFoundError, OSError, ValueError) as absent:
        why = f"the hub cannot be reached ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        hint = "connect to the network once, or use `smollm2-135m-instruct`, which works offline"
        raise ModelError("the model is not on this machine", where={"model": name}, why=why, hint=hint) from absent
