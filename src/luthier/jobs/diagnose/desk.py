"""Diagnose a run: gather what was measured, make every check, and write down the result."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from luthier.advise.diagnose.checks import examine
from luthier.advise.diagnose.evidence import Curve, Evidence
from luthier.advise.diagnose.finding import Diagnosis
from luthier.core.errors import LuthierError
from luthier.core.files import write_atomic
from luthier.core.runfolder import RunFolder
from luthier.jobs.diagnose.folder import Opened
from luthier.jobs.diagnose.model import answered_of, base_of, judged_of, rendered_of
from luthier.jobs.diagnose.rows import data_of, splits_of
from luthier.jobs.diagnose.training import curve_of, settings_of, weights_of
from luthier.jobs.summary import state_of

FILE = "diagnosis.json"
PLOT = "diagnosis.svg"
PLOT_POINTS = 400
PLOT_STYLE = (
    "text{font:12px sans-serif;fill:#555}.grid{stroke:#ddd}polyline{fill:none;stroke-width:1.8}"
    ".s0{stroke:#2563eb}.s1{stroke:#d97706}circle{stroke-width:0}circle.s0{fill:#2563eb}circle.s1{fill:#d97706}"
)
PARTS: dict[str, Callable[[Opened], Any]] = {
    "settings": settings_of,
    "curve": curve_of,
    "data": data_of,
    "splits": splits_of,
    "judged": judged_of,
    "rendered": rendered_of,
    "answered": answered_of,
    "weights": weights_of,
    "base": base_of,
}
"""Who gathers which part of the evidence; each returns the part, or in words why it is not there."""


def diagnose_run(run: RunFolder) -> Diagnosis:
    """Look for every problem in a run, finished or not, and write `diagnosis.json` and a plot of the losses into it."""
    evidence = gather(run)
    verdicts = examine(evidence)
    diagnosis = Diagnosis(
        run=str(run.path.absolute()),
        state=state_of(run),
        findings=verdicts.findings,
        healthy=verdicts.healthy,
        not_checked=verdicts.not_checked,
        plot=_plotted(evidence.curve, run.path),
    )
    write_atomic(run.path / FILE, diagnosis.model_dump_json(indent=2) + "\n")
    return diagnosis


def gather(run: RunFolder) -> Evidence:
    """Return all that was measured; what cannot be read is missing with its reason, and hinders nothing else."""
    opened = Opened(run)
    found: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name, gathered in PARTS.items():
        try:
            part = gathered(opened)
        except LuthierError as error:
            part = error.what
        except (OSError, ValueError) as error:  # A live run replaces its checkpoints, and a person may have tidied up.
            part = f"it cannot be read: {str(error).splitlines()[0]}"
        if isinstance(part, str):
            missing[name] = part
        else:
            found[name] = part
    return Evidence(**found, missing=missing)


def _plotted(curve: Curve | None, folder: Path) -> str | None:
    """Draw the losses as a picture of its own, and return its path."""
    if curve is None or not curve.loss:
        return None
    from luthier.evaluate.curves import thinned
    from luthier.evaluate.svg import LINE_HEIGHT, WIDTH, Line, line_chart

    series = {"training": curve.loss, "validation": curve.validation}
    lines = [Line(name, thinned(points, PLOT_POINTS)) for name, points in series.items() if points]
    chart = line_chart("Loss in nats: training blue, validation orange", lines)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {LINE_HEIGHT}">'
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    write_atomic(folder / PLOT, f"{head}<style>{PLOT_STYLE}</style>{ground}{chart}</svg>\n")
    return str((folder / PLOT).absolute())
