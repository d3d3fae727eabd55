"""The run folder: where a run keeps its recipe, plan, events, manifest, and one folder per room."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock

from luthier.core.errors import RecipeError, ResourceError
from luthier.core.files import disk_errors, write_atomic

ROOMS = ("data", "train", "evaluate", "export")
NUMBERED = re.compile(r"(.+?)-(\d+)")


@dataclass(frozen=True)
class RunFolder:
    """One run's folder and the names of what lies in it."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The recipe as it was asked for, with `--set` values in it."""
        return self.path / "recipe.yaml"

    @property
    def plan(self) -> Path:
        """The recipe with every value resolved; it runs again."""
        return self.path / "plan.yaml"

    @property
    def events(self) -> Path:
        """Everything that happened, one JSON line each."""
        return self.path / "events.jsonl"

    @property
    def manifest(self) -> Path:
        """Versions, seeds and hashes."""
        return self.path / "manifest.json"

    @property
    def card(self) -> Path:
        """The model card."""
        return self.path / "README.md"

    @property
    def is_run(self) -> bool:
        """Whether a run was begun here; a recipe alone is what a person wrote."""
        return self.recipe.exists() and self.events.exists()

    def room(self, name: str) -> Path:
        """Return the folder that one room writes in."""
        return self.path / name

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from working in this folder; a killed process holds no lock."""
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.path / ".lock")
        with disk_errors(self.path):
            self._acquire(lock)
        try:
            yield
        finally:
            lock.release()

    def _acquire(self, lock: filelock.BaseFileLock) -> None:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            hint = "wait until it ends, or choose another folder with `--out`"
            raise ResourceError(
                "another process works in this run folder", where={"run": self.path}, hint=hint
            ) from error

    def discard(self) -> None:
        """Remove what a run has written, and the folder itself where nothing else is in it."""
        for file in (self.recipe, self.plan, self.events, self.manifest, self.card, self.path / ".lock"):
            file.unlink(missing_ok=True)
        for folder in (*ROOMS, "tensorboard"):
            shutil.rmtree(self.path / folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def mend_events(self) -> None:
        """Make sure that the log is there, and cut off a last event that a crash left half-written."""
        with disk_errors(self.events):
            self.events.touch()
        data = self.events.read_bytes()
        if data and not data.endswith(b"\n"):
            write_atomic(self.events, data[: data.rfind(b"\n") + 1])


def new_run(root: Path, name: str) -> RunFolder:
    """Make the first free folder of `name`, `name-2`, `name-3`, …"""
    with disk_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            path = root / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir()
                return RunFolder(path)
            except FileExistsError:
                number += 1


def runs_of(root: Path, name: str | None = None) -> list[RunFolder]:
    """Return the runs in a folder, newest first; with a name, only `name`, `name-2`, …"""
    found = [path for path in root.iterdir() if RunFolder(path).is_run] if root.is_dir() else []
    if name is not None:
        found = [path for path in found if base_name(path.name) == name or path.name == name]
    return [RunFolder(path) for path in sorted(found, key=_age_order, reverse=True)]


def _age_order(path: Path) -> tuple[float, int, str]:
    numbered = NUMBERED.fullmatch(path.name)
    return ((path / "recipe.yaml").stat().st_mtime, int(numbered[2]) if numbered else 1, path.name)


def base_name(name: str) -> str:
    """Return a run's name without its number."""
    numbered = NUMBERED.fullmatch(name)
    return numbered[1] if numbered else name


def find_run(text: str, root: Path) -> RunFolder:
    """Return the run a person means: a folder, or a name in `root`."""
    for path in (Path(text), root / text):
        if RunFolder(path).is_run:
            return RunFolder(path)
    names = ", ".join(run.path.name for run in runs_of(root)[:8])
    hint = (
        f"runs in {root}: {names}" if names else f"there are no runs in {root} yet; `luthier run recipe.yaml` makes one"
    )
    raise RecipeError(f"there is no run `{text}`", hint=hint)
