"""The report as Markdown, for terminals, pull requests and model cards."""

import re
from collections.abc import Iterable, Sequence

from luthier.core.artifacts import Comparison, Report
from luthier.evaluate.conclusion import TUNED
from luthier.evaluate.confusion import ConfusionTable
from luthier.evaluate.content import Content
from luthier.evaluate.curves import Curves
from luthier.evaluate.duels import Duels, shortened
from luthier.evaluate.sample import Sample
from luthier.evaluate.table import HARNESS_COLUMNS, harness_rows, table_rows
from luthier.score.names import title_of
from luthier.score.verdict import estimate_text

WIDEST = 12
"""Labels up to which a confusion table is still readable as text."""


def markdown(content: Content) -> str:
    """Return the whole report as Markdown; what models wrote stands in code fences it cannot leave."""
    report = content.report
    sections = [
        ["# Was it worth it?", f"**{_inline(report.conclusion)}**", content.method],
        ["## Results", *_results(report)],
        ["## Row by row", "\n".join(f"- {_against(one)}" for one in content.comparisons)],
        ["## Parts of the test rows", *_slices(content)],
        ["## Tasks of lm-eval", *_harness(report)],
        ["## Training", *_training(content.curves)],
        ["## Calibration", *([_inline(content.calibration)] if content.calibration else [])],
        ["## Confusion", *map(_confusion, content.confusions)],
        ["## Examples", *(_duels(content.duels) if content.duels else [])],
        ["## The run", *_facts(content)],
    ]
    return "\n\n".join(block for section in sections if any(section[1:]) for block in section if block) + "\n"


def _against(comparison: Comparison) -> str:
    return _inline(f"{comparison.a} against {comparison.b}: {comparison.verdict}")


def _results(report: Report) -> list[str]:
    rows = table_rows(report)
    header = ["system", *(rows[0].cells if rows else [])]
    return [_table(header, [[row.system, *row.cells.values()] for row in rows])]


def _slices(content: Content) -> list[str]:
    if not content.slices:
        return []
    header = ["parted by", "", "rows", f"{TUNED}: {title_of(content.report.primary_metric)}"]
    rows = [[one.by, one.name, str(one.estimate.n), estimate_text(one.metric, one.estimate)] for one in content.slices]
    return [f"**{_inline(content.weakest)}**" if content.weakest else "", _table(header, rows)]


def _harness(report: Report) -> list[str]:
    if not report.harness:
        return []
    return [_table(HARNESS_COLUMNS, harness_rows(report.harness))]


def _training(curves: Curves) -> list[str]:
    lines = []
    for name, series in (("loss", curves.loss), ("validation loss", curves.validation_loss)):
        if series:
            step, lowest = min(series, key=lambda point: point[1])
            said = f"{series[0][1]:.3f} at step {series[0][0]}, {series[-1][1]:.3f} at step {series[-1][0]}"
            lines.append(f"- {name}: {said}, lowest {lowest:.3f} at step {step}")
    return ["\n".join(lines)]


def _confusion(table: ConfusionTable) -> str:
    if len(table.columns) > WIDEST:
        return f"{_inline(table.system)}: {len(table.columns)} columns, see `report.html`."
    header = [f"{table.system}: true ↓, answered →", *table.columns]
    return _table(header, [[true, *(str(cell.count) for cell in cells)] for true, cells in table.rows])


def _duels(duels: Duels) -> list[str]:
    blocks = []
    for word, count, samples in (("won", duels.won_count, duels.won), ("lost", duels.lost_count, duels.lost)):
        blocks.append(f"### Rows {word} against {_inline(duels.baseline)}: {count}, of which {len(samples)} here")
        blocks += [block for sample in samples for block in _sample(sample, (TUNED, duels.baseline))]
    return blocks


def _sample(sample: Sample, systems: Sequence[str]) -> list[str]:
    texts = [("prompt", sample.prompt), ("reference", sample.reference)]
    texts += [(name, sample.answers[name].text) for name in systems]
    return [f"**{_inline(sample.row)}**", *(f"{_inline(name)}:\n{_fenced(shortened(text))}" for name, text in texts)]


def _facts(content: Content) -> list[str]:
    return [_table(["", ""], [[name, value] for name, value in content.facts.items()])] if content.facts else []


def _fenced(text: str) -> str:
    # A fence is only closed by one at least as long.
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_inline(cell) for cell in line) + " |" for line in lines)


def _inline(text: str) -> str:
    one_line = " ".join(text.split())
    return re.sub(r"([\\`*_|]|<(?=[A-Za-z/!?])|\](?=[(\[:]))", r"\\\1", one_line)
