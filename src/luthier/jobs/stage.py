"""One room of a run: open it, or skip it when its result was made from the same inputs."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

import luthier
from luthier.core.artifacts import Artifact
from luthier.core.events import Emit, Event
from luthier.core.files import disk_errors, sha256_of_json

A = TypeVar("A", bound=Artifact)


def key_of(name: str, inputs: list[object]) -> str:
    """Return the hash of everything a room's result depends on, this version of Luthier included."""
    plain = [part.model_dump(mode="json") if isinstance(part, BaseModel) else part for part in inputs]
    return sha256_of_json([luthier.__version__, name, *plain])


def stage(out: Path, kind: type[A], work: Callable[[Path], A], *, inputs: list[object], emit: Emit) -> A:
    """Return the room's artifact from `out`, doing the work only where it is missing or was made from other inputs."""
    name = out.name
    key = key_of(name, inputs)
    done = kind.read(out)
    if done is not None and done.inputs_sha256 == key:
        emit(Event(room="jobs", kind="note", message=f"{name}: already done from the same inputs", data={"room": name}))
        return done
    # A result without a key was finished by the room but not yet by us: the room goes on from it.
    if done is not None and done.inputs_sha256:
        with disk_errors(out):
            shutil.rmtree(out)

    emit(Event(room="jobs", kind="start", message=name))
    started = time.perf_counter()
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    artifact = work(out)
    seconds = time.perf_counter() - started
    artifact = artifact.model_copy(update={"inputs_sha256": key, "seconds": seconds}).write(out)
    emit(Event(room="jobs", kind="done", message=name, data={"seconds": seconds}))
    return artifact
