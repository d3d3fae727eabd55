"""`luthier diagnose`."""

from typing import TYPE_CHECKING

from luthier.cli.options import Json, RunName
from luthier.cli.tell import put, put_json, put_table

if TYPE_CHECKING:
    from luthier.advise.diagnose.finding import Diagnosis


def diagnose(run: RunName, json: Json = False) -> None:
    """Look for known problems in a run, during it or after it, and say what helps.

    What could not be looked for is listed with the reason. `luthier run RECIPE --apply RUN` takes the values proposed.
    """
    from luthier.core.runfolder import find_run
    from luthier.core.settings import runs_dir
    from luthier.jobs.diagnose.desk import diagnose_run

    diagnosis = diagnose_run(find_run(run, runs_dir()))
    if json:
        put_json(diagnosis.model_dump(mode="json"))
    else:
        _put(diagnosis)


def _put(diagnosis: "Diagnosis") -> None:
    put(f"{diagnosis.run}: {diagnosis.state}")
    if diagnosis.findings:
        columns = ["problem", "sure", "evidence", "remedy", "values"]
        rows = [
            [
                finding.name,
                f"{finding.confidence:.0%}",
                "\n".join((finding.what, *(f"· {line}" for line in finding.evidence))),
                finding.remedy,
                "\n".join(f"{path}: {value}" for path, value in finding.patch.items()),
            ]
            for finding in diagnosis.findings
        ]
        put_table("found", columns, rows)
    put(f"looked for and not found: {', '.join(diagnosis.healthy) or 'nothing'}")
    if diagnosis.not_checked:
        put_table("not checked", ["problem", "why"], [[check.name, check.why] for check in diagnosis.not_checked])
    if diagnosis.plot:
        put(f"plot: {diagnosis.plot}")
