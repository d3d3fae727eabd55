"""Kept advice: the same question about the same data and models is answered from its folder."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import ValidationError

import luthier
from luthier.core.artifacts import Base
from luthier.core.files import sha256_of, sha256_of_json, write_atomic
from luthier.evaluate.harness import harness_sources
from luthier.jobs.advise.result import Advised
from luthier.jobs.advise.wanted import Wanted
from luthier.jobs.manifest import data_hashes
from luthier.recipe import Recipe

RESULTS = ("advice.json", "advice.md", "advice.html", "recipe.yaml")


def key_of_call(wanted: Wanted, recipe: Recipe, bases: Sequence[Base], passages: Sequence[str]) -> str:
    """Return the hash of all that advice depends on: what was asked, the data, the documents, the base models."""
    asked = {name: value for name, value in asdict(wanted).items() if name not in ("out", "prices")}
    return sha256_of_json(
        [
            luthier.__version__,
            asked,
            wanted.prices.model_dump(mode="json"),
            recipe.model_dump(mode="json"),
            data_hashes(recipe),
            [_listed(Path(file)) for file in wanted.files],
            list(passages),
            harness_sources(wanted.harness),
            [base.weights_sha256 for base in bases],
        ]
    )


def kept_advice(out: Path, key: str) -> Advised | None:
    """Return the advice that lies in a folder, where it was given to the same call and nobody has changed it."""
    said = _path(out)
    if not said.exists() or not all((out / name).exists() for name in RESULTS):
        return None
    written = out / "advice.json"
    if json.loads(said.read_text(encoding="utf-8")) != {"key": key, "advice": sha256_of(written)}:
        return None
    try:
        advised = Advised.model_validate_json(written.read_text(encoding="utf-8"))
    except ValidationError:
        return None
    return advised.model_copy(update={"folder": out, "recipe": out / "recipe.yaml"})


def keep_advice(out: Path, key: str) -> None:
    """Write, after everything else, which call the advice in a folder answers."""
    write_atomic(_path(out), json.dumps({"key": key, "advice": sha256_of(out / "advice.json")}))


def _listed(path: Path) -> list[list[object]]:
    """Return what lies in a folder of data, with sizes and times; nothing for a file, whose content is hashed."""
    files = sorted(path.rglob("*")) if path.is_dir() else []
    return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()]


def _path(out: Path) -> Path:
    return out / "work" / "call.json"
