"""Small prepared texts for heads, on tiny encoders and tiny causal models."""

import json
import random
from pathlib import Path

from luthier.core.artifacts import Base, Prepared
from luthier.core.events import Event
from luthier.data import room as data_room
from luthier.data.spec import DataSpec, SplitSpec
from luthier.model.checks import kind_of
from luthier.model.tiny import ENCODERS, save_tiny, save_tiny_encoder
from luthier.train.methods.classify.spec import ClassifySpec
from luthier.train.methods.extract.spec import ExtractSpec
from luthier.train.methods.regress.spec import RegressSpec

SYLLABLES = ("ba", "de", "gi", "ko", "lu")
METHODS = {"label": ClassifySpec, "labels": ClassifySpec, "score": RegressSpec, "spans": ExtractSpec}
FORMATS = {"label": "auto", "labels": "auto", "score": "scored", "spans": "auto"}


def judged_rows(kind: str, count: int = 60) -> list[dict[str, object]]:
    """Rows whose truth stands in the text: its first word, or the words in capitals that follow a mark."""
    draw, rows = random.Random(3), []
    for number in range(count):
        words = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 3))) for _ in range(draw.randint(3, 9))]
        mark, at = "xyz"[number % 3], draw.randrange(len(words))
        text = " ".join([mark * 3, *words])
        start = len(" ".join([mark * 3, *words[:at]])) + 1
        span = {"start": start, "end": start + len(words[at]), "label": "WHAT"}
        truth: dict[str, object] = {
            "label": mark,
            "labels": sorted({mark, "xyz"[len(words) % 3]}) if number % 4 else [],
            "score": 10.0 + 5 * (number % 3),
            "spans": [span] if number % 5 else [],
        }
        rows.append({"text": text, kind: truth[kind]})
    return rows


def base_of(folder: Path, family: str) -> Base:
    """Write a tiny model and return it as a base."""
    made = save_tiny_encoder(folder / "base", family) if family in ENCODERS else save_tiny(folder / "base", family)
    return Base(name="tiny", folder=made, weights_sha256="w", kind=kind_of(made))


def prepare(folder: Path, kind: str, family: str = "bert", *, rows: list[dict[str, object]] | None = None) -> Prepared:
    """Prepare such rows for a tiny model."""
    path, base = folder / "rows.jsonl", base_of(folder, family)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows or judged_rows(kind)))
    split = SplitSpec(validation=0.2, test=0.2)
    spec = DataSpec(path=str(path), render="text", format=FORMATS[kind], max_tokens=64, split=split)
    return data_room.run(spec, base, folder / "data", list[Event]().append, seed=7)
