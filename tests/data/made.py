"""Data files made by tests."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

WORDS = tuple(
    f"{start}{end}"
    for start in ("am", "bri", "can", "dra", "en", "for", "gar", "ham")
    for end in ("ber", "dle", "gon", "mer", "nade")
)
TONES = ("negative", "neutral", "positive")


def sentence(draw: random.Random, words: int = 12) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(words))


def labelled(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Return rows of a phrase and one of three tones in turn."""
    draw = random.Random(seed)
    return [{"phrase": sentence(draw), "tone": TONES[index % 3]} for index in range(count)]


def questions(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    return [{"prompt": f"{sentence(draw)}?", "completion": sentence(draw)} for _ in range(count)]


def pairs(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Return rows of a prompt with a better and a worse answer."""
    draw = random.Random(seed)
    return [
        {"prompt": f"{sentence(draw)}?", "chosen": sentence(draw, 6), "rejected": sentence(draw)} for _ in range(count)
    ]


def write_jsonl(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def write_as(path: Path, rows: list[dict[str, str]]) -> str:
    """Write rows of text as the kind of file that the name says."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows), sink)
        data = sink.getvalue().to_pybytes()
    elif name.endswith((".csv", ".tsv")):
        mark = "," if name.endswith(".csv") else "\t"
        lines = [mark.join(rows[0]), *(mark.join(f'"{cell}"' for cell in row.values()) for row in rows)]
        data = "\n".join(lines).encode()
    elif name.endswith(".json"):
        data = json.dumps(rows).encode()
    else:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)
