"""The loss of vectors: over a whole batch at once where rows are compared with each other."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn.functional import cosine_similarity

from luthier.core.errors import DataError
from luthier.core.events import Emit
from luthier.examples.example import Example
from luthier.examples.store import Encoded, Split
from luthier.model.step import StepModel
from luthier.model.vectors import vectored
from luthier.train.batches import Cut
from luthier.train.methods.embed.losses import Columns, Price, cut_to, likeness, price_of
from luthier.train.methods.embed.own import own_loss
from luthier.train.methods.embed.spec import EmbedSpec, LossFile
from luthier.train.methods.heads import Judged, truths
from luthier.train.methods.method import Part

RANGES = {"cosine": (-1.0, 1.0), "contrastive": (0.0, 1.0)}
"""What the numbers of scored pairs may be."""


class EmbedLoss:
    """A loss of vectors; the unit is the row. Measures the share of rows whose match is nearest, where there is one."""

    first_loss = None

    def __init__(self, spec: EmbedSpec, *, file: Path | None = None) -> None:
        """Make the loss; one of the user's own from `file`, a copy of what the recipe names."""
        self.spec = spec
        self.whole = spec.spans_batch
        self._price: Price = own_loss(spec.loss, file=file) if isinstance(spec.loss, LossFile) else price_of(spec)

    def referenced(self, step: StepModel, split: Split, cut: Cut, emit: Emit) -> Judged:
        """Return the rows with their numbers, where they have one."""
        least, most = RANGES.get(str(self.spec.loss), (-float("inf"), float("inf")))
        for example in split.examples():
            if example.score is not None and not least <= example.score <= most:
                where = {"row": f"{Path(example.file).name}:{example.row}"}
                why = f"the loss `{self.spec.loss}` takes numbers from {least:g} to {most:g}, and this one is"
                hint = "bring the scores into this range: divide by the greatest"
                raise DataError("a score is out of range", where=where, why=f"{why} {example.score:g}", hint=hint)
        return Judged(split, _number)

    def units(self, rows: Sequence[Encoded]) -> int:
        """Return the number of rows."""
        return len(rows)

    def columns(self, model: StepModel, rows: Sequence[Encoded]) -> list[torch.Tensor]:
        """Return the vectors of the rows' texts, (R, D) each."""
        return vectored(model).columns(rows)

    def of_columns(self, columns: Columns, rows: Sequence[Encoded]) -> Part:
        """Return the loss of rows whose vectors are known, the mean times the rows."""
        numbers = truths(rows, columns[0].device)[:, :1].flatten()
        views = [cut_to(columns, length) for length in self.spec.matryoshka] or [list(columns)]
        loss = torch.stack([self._price(view, numbers) for view in views]).sum()
        return Part(loss * len(rows), len(rows), _measured([column.detach() for column in columns], numbers))

    def __call__(self, model: StepModel, rows: Sequence[Encoded], /) -> Part:
        """Return the loss summed over rows."""
        return self.of_columns(self.columns(model, rows), rows)


def _number(example: Example, encoded: Encoded) -> tuple[float, ...]:
    return () if example.score is None else (example.score,)


def _measured(columns: Columns, numbers: torch.Tensor) -> dict[str, torch.Tensor]:
    if len(numbers):
        return {"cosine_error": (cosine_similarity(columns[0], columns[1]) - numbers).abs().sum()}
    if len(columns) == 3:
        own, other = (cosine_similarity(columns[0], column) for column in columns[1:])
        return {"accuracy": (own > other).sum()}
    nearest = likeness(columns).argmax(-1)
    return {"accuracy": (nearest == torch.arange(len(nearest), device=nearest.device)).sum()}
