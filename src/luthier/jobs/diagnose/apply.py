"""Apply a diagnosis: turn the values that its findings propose into `--set` words, and say why."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from luthier.advise.diagnose.finding import Diagnosis, Finding
from luthier.core.errors import RecipeError
from luthier.core.runfolder import find_run
from luthier.core.settings import runs_dir
from luthier.jobs.diagnose.desk import diagnose_run
from luthier.jobs.plan import value_at
from luthier.recipe import Recipe
from luthier.recipe_io.read import load_recipe


@dataclass(frozen=True)
class Applied:
    """A recipe with the values that a diagnosis proposes."""

    recipe: Recipe
    changes: tuple[str, ...]
    """What was changed and why, a sentence each; empty where nothing was."""


def apply_diagnosis(path: Path, source: str, *, only: str | None = None, overrides: Sequence[str] = ()) -> Applied:
    """Return the recipe in a file changed as a run's findings, or those in a JSON file, propose.

    Of two findings for one field the surer one wins, and what a person sets by hand wins over both.
    """
    before = load_recipe(path, overrides)
    by_hand = {word.partition("=")[0].strip() for word in overrides}
    words: dict[str, str] = {}
    changes = []
    for finding in _chosen(_findings(source), source, only):
        for field, value in finding.patch.items():
            if field in words or field in by_hand or value_at(before, field) == value:
                continue
            words[field] = f"{field}={json.dumps(value)}"
            changes.append(f"{field}: {value_at(before, field)} → {value} ({finding.name}: {finding.what})")
        if not finding.patch:
            changes.append(f"{finding.name}: no value of the recipe helps; {finding.remedy}")
    return Applied(load_recipe(path, [*words.values(), *overrides]), tuple(changes))


def _findings(source: str) -> tuple[Finding, ...]:
    path = Path(source)
    if path.suffix != ".json":
        return diagnose_run(find_run(source, runs_dir())).findings
    hint = "`luthier diagnose RUN` writes `diagnosis.json` into the run"
    try:
        return Diagnosis.model_validate_json(path.read_text("utf-8")).findings
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds no diagnosis"
        raise RecipeError("these findings cannot be read", where={"file": path}, why=why, hint=hint) from error


def _chosen(findings: tuple[Finding, ...], source: str, only: str | None) -> list[Finding]:
    chosen = [finding for finding in findings if only in (None, finding.name)]
    if only is not None and not chosen:
        names = ", ".join(finding.name for finding in findings) or "none"
        raise RecipeError(f"there is no finding `{only}`", where={"--apply": source}, hint=f"what was found: {names}")
    return chosen
