"""Malformed files: each is read or refused in words, never by another exception; one mutation is found in its line."""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.data.made import labelled, questions, write_as

from luthier.core.errors import LuthierError
from luthier.data.look import look
from luthier.data.opened import open_data
from luthier.data.rows import RowIssue
from luthier.data.sources.find import READERS
from luthier.data.spec import DataSpec
from luthier.model.template import Template
from luthier.model.tiny import tiny_tokenizer

CI_FILES = 500
PROOF_FILES = 10_000
NASTY = (
    *(b"\x00", b"\xff", b"\xed\xa0\x80", b"\xf0\x9f", b"\xef\xbb\xbf", "\u2028".encode(), b"\r", b'"', b"\\"),
    *(b"NaN", b"Infinity", b"-1e999", b"9" * 5000, b"[" * 3000, b"{" * 3000, b'{"a":' * 2000, b"null", b",", b"\t"),
    b"\\ud800",
)
VALUES = (
    *(None, True, 0, -1, 1.5, "", " ", "x", [], {}, [[]], [None], [{}], {"role": "user"}, [{"role": []}], "\x00"),
    *(10**400, [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]),
)
COLUMNS = (
    *("messages", "conversations", "prompt", "completion", "instruction", "output", "text", "label", "tools"),
    *("functions", "input", "system"),
)


def damaged(data: bytes, draw: random.Random) -> bytes:
    """Return the bytes with a few of them cut, changed, doubled or replaced by something nasty."""
    for _ in range(draw.randint(1, 3)):
        at, to = sorted(draw.randrange(len(data) + 1) for _ in range(2))
        data = draw.choice(
            (
                data[:at],
                data[at:],
                data[:at] + draw.choice(NASTY) + data[at:],
                data[:at] + bytes(draw.randrange(256) for _ in range(draw.randint(1, 8))) + data[to:],
                data[:to] + data[at:],
                data.replace(b"\n", draw.choice((b"\r", b"", b"\n\n", b"\x0b")), draw.randint(1, 3)),
            )
        )
    return data


def strange_rows(draw: random.Random) -> list[object]:
    """Return rows with known columns and unexpected values."""

    def row() -> object:
        return {column: draw.choice(VALUES) for column in draw.sample(COLUMNS, draw.randint(1, 4))}

    return [row() if draw.random() < 0.9 else draw.choice(VALUES) for _ in range(draw.randint(1, 12))]


def malformed_file(folder: Path, number: int) -> Path:
    """Write the malformed file of this number; the same number gives the same file."""
    draw = random.Random(number)
    path = folder / f"{number}{draw.choice(sorted(READERS))}{draw.choice(('', '', '.gz'))}"
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind in ("jsonl", "ndjson", "json") and draw.random() < 0.4:
        rows = strange_rows(draw)
        text = json.dumps(rows) if kind == "json" else "\n".join(map(json.dumps, rows))
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
        return path
    write_as(path, draw.choice((labelled, questions))(draw.randint(1, 20), seed=number))
    data = path.read_bytes()
    if path.suffix == ".gz" and draw.random() < 0.7:
        path.write_bytes(gzip.compress(damaged(gzip.decompress(data), draw)))
    else:
        path.write_bytes(damaged(data, draw))
    return path


def read_or_refused(path: Path, template: Template) -> bool:
    """Return whether the file was refused; any exception but our own ends the test."""
    try:
        look(DataSpec(path=str(path)), encode=template.encode)
    except LuthierError as error:
        assert str(error).startswith("error: ")
        return True
    return False


def check_files(folder: Path, count: int) -> None:
    refused, template = 0, Template(tiny_tokenizer())
    for number in range(count):
        path = malformed_file(folder, number)
        refused += read_or_refused(path, template)
        path.unlink()
    assert 0.2 * count < refused < 0.95 * count, "the files should be neither all good nor all bad"


def test_malformed_files_are_read_or_refused(tmp_path: Path) -> None:
    check_files(tmp_path, CI_FILES)


@pytest.mark.proof
def test_ten_thousand_malformed_files_are_read_or_refused(tmp_path: Path, record_property: Callable) -> None:
    record_property("claim", f"{PROOF_FILES:,} malformed files: each read, or refused with a clear error")
    check_files(tmp_path, PROOF_FILES)


def broken(change: Callable[[dict], object]) -> Callable[[str], bytes]:
    """Return a mutation of one line by way of its object."""

    def mutate(line: str) -> bytes:
        row = json.loads(line)
        change(row)
        return json.dumps(row).encode()

    return mutate


MUTATIONS: dict[str, Callable[[str], bytes]] = {
    "cut": lambda line: line[: len(line) // 2].encode(),
    "no comma": lambda line: line.replace('", "', '" "', 1).encode(),
    "single quotes": lambda line: line.replace('"', "'").encode(),
    "trailing comma": lambda line: (line[:-1] + ",}").encode(),
    "two objects": lambda line: (line + line).encode(),
    "list": lambda line: f"[{line}]".encode(),
    "null": lambda line: b"null",
    "latin-1": lambda line: line.replace("?", "\xe9", 1).encode("latin-1"),
    "surrogate": lambda line: line.replace("?", "\\udc00", 1).encode(),
    "control character": lambda line: line.replace("?", "\x01", 1).encode(),
    "duplicate key": lambda line: ('{"prompt": "x", ' + line[1:]).encode(),
    "not a number": lambda line: ('{"score": NaN, ' + line[1:]).encode(),
    "too large": lambda line: ('{"score": 1e999, ' + line[1:]).encode(),
    "too many digits": lambda line: ('{"score": ' + "1" * 5000 + ", " + line[1:]).encode(),
    "too deep": lambda line: ('{"score": ' + "[" * 90 + "]" * 90 + ", " + line[1:]).encode(),
    "far too deep": lambda line: ("[" * 50_000).encode(),
    "missing column": broken(lambda row: row.pop("completion")),
    "empty answer": broken(lambda row: row.update(completion="")),
    "number for text": broken(lambda row: row.update(prompt=5)),
    "null for text": broken(lambda row: row.update(prompt=None)),
}


def check_mutations(folder: Path, count: int) -> None:
    wrong = []
    names = sorted(MUTATIONS)
    for number in range(count):
        draw = random.Random(number)
        name = names[number % len(names)]
        lines = [json.dumps(row).encode() for row in questions(draw.randint(5, 20), seed=number)]
        at = draw.randrange(len(lines))
        lines[at] = MUTATIONS[name](lines[at].decode())
        path = folder / "rows.jsonl"
        path.write_bytes(b"\n".join(lines))
        read = open_data(DataSpec(path=str(path))).examples("train")
        found = [row.row for row in read if isinstance(row, RowIssue)]
        if found != [at + 1]:
            wrong.append(f"{name} in line {at + 1} was reported in {found}")
    assert not wrong, "\n".join(wrong)


def test_one_mutation_is_reported_in_its_line(tmp_path: Path) -> None:
    check_mutations(tmp_path, CI_FILES)


@pytest.mark.proof
def test_ten_thousand_mutations_are_reported_in_their_lines(tmp_path: Path, record_property: Callable) -> None:
    record_property("claim", f"{PROOF_FILES:,} files with one broken line: that line is reported")
    check_mutations(tmp_path, PROOF_FILES)


def test_no_good_file_is_refused(tmp_path: Path) -> None:
    for number in range(60):
        draw = random.Random(number)
        rows = draw.choice((labelled, questions))(draw.randint(8, 30), seed=number)
        path = write_as(tmp_path / f"rows{draw.choice(sorted(READERS))}{draw.choice(('', '.gz'))}", rows)
        assert look(DataSpec(path=path)).rows["train"] == len(rows)
