"""Small prepared rows of texts that are compared, on tiny encoders and tiny causal models."""

import json
import random
from pathlib import Path

from tests.train.headed import base_of

from luthier.core.artifacts import Prepared
from luthier.core.events import Event
from luthier.data import room as data_room
from luthier.data.spec import DataSpec, SplitSpec

SYLLABLES = ("ba", "de", "gi", "ko", "lu", "na", "po", "re", "si", "tu")
NOTES_LOSS = """\
import torch
import torch.nn as nn


class CustomContrastiveLoss(nn.Module):
    def __init__(self, margin=1.0):
        super(CustomContrastiveLoss, self).__init__()
        self.margin = margin

    def forward(self, output1, output2, label):
        euclidean_distance = nn.functional.pairwise_distance(output1, output2)
        return torch.mean(
            (1 - label) * torch.pow(euclidean_distance, 2)
            + (label) * torch.pow(torch.clamp(self.margin - euclidean_distance, min=0.0), 2)
        )
"""


def compared_rows(kind: str, count: int = 60) -> list[dict[str, object]]:
    """Rows whose texts share words where they belong together."""
    draw = random.Random(1)

    def words(number: int) -> list[str]:
        return ["".join(draw.choices(SYLLABLES, k=3)) for _ in range(number)]

    rows = []
    for number in range(count):
        said = words(draw.randint(2, 6))
        anchor, positive, negative = " ".join(said), " ".join(said[1:] + words(1)), " ".join(words(3))
        alike = number % 2
        pair = {"sentence1": anchor, "sentence2": positive if alike else negative}
        rows.append(
            {
                "match": {"anchor": anchor, "positive": positive},
                "triplet": {"anchor": anchor, "positive": positive, "negative": negative},
                "likeness": pair | {"score": 0.9 if alike else 0.1},
                "binary": pair | {"label": alike},
            }[kind]
        )
    return rows


def prepare(folder: Path, kind: str, family: str = "bert") -> Prepared:
    """Prepare such rows for a tiny model."""
    path, base = folder / "rows.jsonl", base_of(folder, family)
    path.write_text("".join(json.dumps(row) + "\n" for row in compared_rows(kind)))
    spec = DataSpec(path=str(path), render="text", max_tokens=64, split=SplitSpec(validation=0.2, test=0.2))
    return data_room.run(spec, base, folder / "data", list[Event]().append, seed=7)
