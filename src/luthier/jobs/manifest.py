"""The manifest of a run: what it was made with, and from what."""

import importlib.metadata
import platform
import time
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

import luthier
from luthier.core.artifacts import Base
from luthier.core.errors import CheckpointError
from luthier.core.files import sha256_of, write_atomic
from luthier.core.rowrange import split_range
from luthier.jobs.own_loss import loss_file
from luthier.recipe import Plan, Recipe


class Manifest(BaseModel):
    """Versions, machine, seeds and hashes of one run; enough to say why two runs differ."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    luthier: str
    """Luthier's version."""
    python: str
    platform: str
    cpu: str
    threads: int | str
    seed: int
    base_model: str
    weights_sha256: str
    """Hash of the base model's weights."""
    data_files: dict[str, str]
    """SHA-256 of each local data file, and of a loss of the user's own, by its path; a hub data set is hashed by the
    data room."""
    packages: dict[str, str]
    """Version of every installed package."""
    started_at: float
    """Seconds since 1970."""
    finished_at: float | None = None
    """Set when the last room is done."""

    @classmethod
    def of(cls, plan: Plan, base: Base) -> Self:
        """Describe this process, this machine and these inputs."""
        return cls(
            luthier=luthier.__version__,
            python=platform.python_version(),
            platform=platform.platform(),
            cpu=platform.processor() or platform.machine(),
            threads=plan.train.threads,
            seed=plan.seed,
            base_model=plan.base_model,
            weights_sha256=base.weights_sha256,
            data_files=data_hashes(plan),
            packages=package_versions(),
            started_at=time.time(),
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the manifest of a run."""
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            hint = "start a new run without `--resume`"
            raise CheckpointError(
                "the run's manifest cannot be read", where={"file": path}, why=str(error), hint=hint
            ) from error

    def write(self, path: Path) -> None:
        """Write it, whole or not at all."""
        write_atomic(path, self.model_dump_json(indent=2) + "\n")

    def finish(self, path: Path) -> None:
        """Write down that the last room is done."""
        self.model_copy(update={"finished_at": self.finished_at or time.time()}).write(path)

    def check_same(self, plan: Plan, base: Base, run: Path) -> None:
        """Refuse to go on with a run whose inputs have changed since it began."""
        changed = [f"`{path}`" for path, digest in data_hashes(plan).items() if self.data_files.get(path) != digest]
        if self.weights_sha256 != base.weights_sha256:
            changed.append(f"the weights of `{base.name}`")
        if self.luthier != luthier.__version__:
            changed.append(f"Luthier ({self.luthier}, now {luthier.__version__})")
        if changed:
            why = f"changed since the run began: {', '.join(changed)}"
            hint = "start a new run without `--resume`"
            raise CheckpointError("this run cannot go on as it began", where={"run": run}, why=why, hint=hint)


def package_versions() -> dict[str, str]:
    """Return the version of every installed package, by its lower-case name."""
    found = {dist.metadata["Name"].lower(): dist.version for dist in importlib.metadata.distributions()}
    return dict(sorted(found.items()))


def data_hashes(recipe: Recipe) -> dict[str, str]:
    """Return the SHA-256 of every local data file that a recipe names, and of its loss's file."""
    data = recipe.data
    entries = [data.path, data.validation_path, data.test_path]
    paths = [path for entry in entries if entry for path in ([entry] if isinstance(entry, str) else entry)]
    files = dict.fromkeys(split_range(path)[0] for path in paths)
    loss = loss_file(recipe)
    files |= {loss.file: None} if loss is not None else {}
    return {path: sha256_of(Path(path)) for path in files if Path(path).is_file()}
