"""Write what an evaluation leaves: `report.json`, `samples.jsonl`, and the readable `report.md` and `report.html`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from luthier.core.artifacts import Report, Trained
from luthier.core.events import Emit, Event
from luthier.core.files import write_atomic
from luthier.evaluate.content import gather
from luthier.evaluate.curves import Curves, read_curves
from luthier.evaluate.markdown import markdown
from luthier.evaluate.page import html_page
from luthier.evaluate.sample import Sample


def write_reports(
    report: Report, samples: Sequence[Sample], curves: Curves, out: Path, *, facts: Mapping[str, str] | None = None
) -> None:
    """Write `report.md` and `report.html` into `out`; `facts` says what was run (model, data, seed, …)."""
    content = gather(report, samples, curves, facts or {})
    # A lone surrogate in a text must not cost the report.
    write_atomic(out / "report.md", markdown(content).encode("utf-8", "replace"))
    write_atomic(out / "report.html", html_page(content).encode("utf-8", "replace"))


def leave(
    report: Report, samples: Sequence[Sample], given: Trained, out: Path, emit: Emit, *, facts: Mapping[str, str]
) -> Report:
    """Write all that an evaluation leaves in `out`, its artifact last, and say what came of it."""
    write_atomic(out / "samples.jsonl", "".join(sample.model_dump_json() + "\n" for sample in samples))
    write_atomic(out / "report.json", report.model_dump_json(indent=2) + "\n")
    write_reports(report, samples, read_curves(given.folder / "metrics.jsonl"), out, facts=facts)
    emit(Event(room="evaluate", kind="done", message=report.conclusion))
    return report.write(out)
