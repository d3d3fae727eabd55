"""Write the readable reports, `report.md` and `report.html`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from luthier.core.artifacts import Report
from luthier.core.files import write_atomic
from luthier.evaluate.content import gather
from luthier.evaluate.curves import Curves
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
