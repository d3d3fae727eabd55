"""The catalogue: every name that can be asked, and what answers under it."""

import re
import shutil
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from luthier.core.errors import CheckpointError
from luthier.export.manifest import read_manifest
from luthier.jobs.service.database import Database, as_record
from luthier.jobs.service.home import Home
from luthier.jobs.service.records import JobRecord, ModelRecord
from luthier.jobs.service.refusal import Refusal, no_model
from luthier.jobs.service.settings import Remote, ServiceSettings

UNFIT = re.compile(r"[^A-Za-z0-9._-]+")
SHORT = 8
"""Characters of a job's id that end a tuned model's name."""


@dataclass(frozen=True)
class Served:
    """What really runs under a name."""

    name: str
    """The base's or the tuned model's own name."""
    base: str
    """The base's name on offer."""
    base_model: "str | Remote"
    """What a recipe calls the base; an export's folder; a model on another server."""
    adapter: Path | None
    """The folder of the adapter's weights; None for the base itself."""


def adapter_file(folder: Path, name: str) -> Path:
    """Return the file of an export's adapter; Refusal where the export has none of this name."""
    try:
        known = read_manifest(folder).adapters
    except CheckpointError as error:
        raise Refusal(f"The model cannot be loaded: {error.what}", status=503, kind="server_error") from error
    if name not in known:
        what = f"The export has no adapter '{name}'; it has {', '.join(known) or 'none'}."
        raise Refusal(what, status=503, kind="server_error", code="model_not_ready")
    return folder / known[name]


class Catalogue:
    """Bases on offer, tuned models, checkpoints, and the names given to them."""

    def __init__(self, home: Home, database: Database, settings: ServiceSettings) -> None:
        self.home = home
        self.database = database
        self.settings = settings

    def list(self, owner: str) -> list[ModelRecord]:
        """Return the bases on offer and a project's own models."""
        bases = [self._base(name) for name in self.settings.offered]
        return [*bases, *(self._record(row) for row in self.database.query("models", owner=owner))]

    def get(self, name: str, owner: str) -> ModelRecord:
        """Return a base, or a model that this project may use."""
        if name in self.settings.offered:
            return self._base(name)
        row = self.database.one("model", id=name, owner=owner)
        if row is None:
            raise no_model(name)
        return self._record(row)

    def resolve(self, name: str, owner: str) -> Served:
        """Return what really runs under a model's, an alias's or a deployment's name."""
        deployed = self.database.one("deployment", id=name, owner=owner)
        name = deployed["model"] if deployed else name
        name = self.settings.aliases.get(name, name)
        model = self.get(name, owner)
        base_model = self.settings.offered.get(model.base)
        if base_model is None:
            what = f"The model '{name}' needs the base '{model.base}', which is not offered any more"
            raise Refusal(what, status=404, code="model_not_found", param="model")
        if name in self.settings.exports:
            folder, _, adapter = self.settings.exports[name].partition("#")
            return Served(name, name, folder, adapter_file(Path(folder), adapter) if adapter else None)
        if name in self.settings.remotes:
            return Served(name, name, self.settings.remotes[name], None)
        return Served(name, model.base, base_model, Path(model.adapter) if model.adapter else None)

    def tunable(self, name: str) -> str:
        """Return the base that a job on this name trains."""
        base = self.settings.aliases.get(name, name)
        if base in self.settings.bases:
            return base
        offered = ", ".join(f"'{known}'" for known in [*self.settings.bases, *self.settings.aliases])
        if base in self.settings.offered:
            what = f"Model {name} is not available for fine-tuning: it is an export or another server's model."
            raise Refusal(f"{what} Start from {offered}.", code="model_not_available", param="model")
        if name.startswith("ft:"):
            what = f"Model {name} is not available for fine-tuning: a tuned model is not tuned further here."
            raise Refusal(f"{what} Start from {offered}.", code="model_not_available", param="model")
        what = f"The model '{name}' does not exist. On offer: {offered}; `aliases` in service.yaml maps further names."
        raise Refusal(what, status=404, code="model_not_found", param="model")

    def add(self, name: str, adapter: Path, job: JobRecord, owner: str) -> None:
        """Put a tuned model or a checkpoint in; within the caller's transaction."""
        self.database.query(
            "add_model",
            id=name,
            owner=owner,
            created_at=int(time.time()),
            owned_by=self.settings.organization,
            base=job.base,
            adapter=self.home.relative(adapter),
            job_id=job.id,
        )

    def delete(self, name: str, owner: str) -> None:
        """Remove a tuned model or a checkpoint, and its weights."""
        if name in self.settings.offered or name in self.settings.aliases:
            what = f"The model '{name}' is a base; only tuned models can be deleted."
            raise Refusal(what, status=403, param="model")
        with self.database.transaction():
            row = self.database.one("own_model", id=name, owner=owner)
            if row is None:
                raise no_model(name)
            deployed = self.database.one("deployed", model=name, owner=owner)
            if deployed is not None:
                what = f"The model '{name}' is deployed as '{deployed['id']}'; delete the deployment first."
                raise Refusal(what, status=409, code="model_deployed", param="model")
            self.forget(name)
        shutil.rmtree(self.home.path / row["adapter"], ignore_errors=True)

    def forget(self, name: str) -> None:
        """Remove a model's rows; within the caller's transaction."""
        for statement, key in (("delete_permissions", "checkpoint"), ("delete_checkpoint", "model")):
            self.database.query(statement, **{key: name})
        self.database.query("delete_model", id=name)

    def name_of(self, job: JobRecord, step: int | None = None) -> str:
        """Return the name of a job's tuned model, or of its checkpoint at a step."""
        suffix = UNFIT.sub("-", job.suffix or "").strip("-")
        name = f"ft:{job.base}:{self.settings.organization}:{suffix}:{job.id[-SHORT:]}"
        return name if step is None else f"{name}:ckpt-step-{step}"

    def _base(self, name: str) -> ModelRecord:
        # A base is as old as the settings that offer it.
        return ModelRecord(id=name, created_at=int(self.home.settings.stat().st_mtime), owned_by="system", base=name)

    def _record(self, row: sqlite3.Row) -> ModelRecord:
        return as_record(ModelRecord, row, adapter=str(self.home.path / row["adapter"]))
