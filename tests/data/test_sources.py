"""Every kind of source, and every trap of section 1.3: a bad row is one bad row, a bad file is one clear error."""

import gzip
import json
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.data.made import labelled, write_as

from luthier.core.errors import DataError
from luthier.data.opened import open_data
from luthier.data.rows import RawRow, RowIssue
from luthier.data.sources.find import READERS, find_sources
from luthier.data.sources.hub import HubName
from luthier.data.spec import DataSpec

ROWS = [{"a": "one", "b": "two, and more"}, {"a": "drei ü", "b": "line\u2028separator"}]


def read(path: Path | str) -> list[RawRow | RowIssue]:
    return [row for source in find_sources(str(path)) for row in source.rows()]


def values(path: Path | str) -> list[object]:
    rows = read(path)
    assert all(isinstance(row, RawRow) for row in rows), rows
    return [row.value for row in rows]


def issue(path: Path, line: bytes) -> RowIssue:
    """Return the issue of one bad line between two good ones."""
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"a": 2}\n')
    good, bad, other = read(path)
    assert isinstance(good, RawRow) and isinstance(other, RawRow) and isinstance(bad, RowIssue)
    assert (other.value, bad.row, other.row) == ({"a": 2}, 2, 3)
    return bad


def refusal(path: Path | str) -> DataError:
    with pytest.raises(DataError) as caught:
        read(path)
    assert caught.value.exit_status == 3
    return caught.value


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("suffix", sorted(READERS))
def test_every_kind_reads_the_same_rows(tmp_path: Path, suffix: str, packed: str) -> None:
    path = tmp_path / f"rows{suffix}{packed}"
    write_as(path, ROWS)
    assert values(path) == ROWS
    assert [row.row for row in read(path)] == [1, 2]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv"])
def test_a_bom_is_passed_over(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    write_as(path, ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert values(path) == ROWS


def test_jsonl_keeps_line_numbers_over_blank_lines_and_windows_ends(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\r\n\r\n  \n{"a": "x\xe2\x80\xa8y"}\r\n"bare"')
    assert [(row.row, row.value) for row in read(path)] == [(1, {"a": 1}), (4, {"a": "x\u2028y"}), (5, "bare")]


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        (b"[" * 100_000 + b"]" * 100_000, "too_deep", "nested"),
        (b'{"a": ' + b"[" * 70 + b"]" * 70 + b"}", "too_deep", "more than 64"),
        (b'{"a": NaN}', "not_finite", "NaN"),
        (b'{"a": -Infinity}', "not_finite", "Infinity"),
        (b'{"a": 1e999}', "not_finite", "1e999"),
        (b'{"a": ' + b"7" * 5000 + b"}", "huge_number", "digits"),
        (b'{"a": "\\ud800"}', "lone_surrogate", "surrogate"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "duplicate_key", '"c"'),
        (b'{"a": 1', "not_json", "column 8"),
        (b"{'a': 1}", "not_json", "column 2"),
        (b'{"a": 1} {"a": 2}', "not_json", "extra data"),
        (b'{"a": "\xe9"}', "not_utf8", "0xe9 at byte 8"),
        (b"[1, 2]", "not_object", "a list"),
        (b"null", "not_object", "null"),
        (b"17", "not_object", "a number"),
        (b"true", "not_object", "true or false"),
        (b'{"a": "tab\there"}', "not_json", "control character"),
    ],
)
def test_a_bad_line_is_one_issue(tmp_path: Path, line: bytes, code: str, says: str) -> None:
    found = issue(tmp_path / "rows.jsonl", line)
    assert found.code == code
    assert says.lower() in found.reason.lower()


def test_a_pair_of_surrogates_is_a_character(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": "\\ud83c\\udfbb"}\n')
    assert values(path) == [{"a": "\N{VIOLIN}"}]


def test_a_line_over_the_limit_is_one_issue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier.data.sources.streams.MAX_LINE_BYTES", 64)
    found = issue(tmp_path / "rows.jsonl", b'{"a": "' + b"x" * 1000 + b'"}')
    assert found.code == "long_line"


def test_json_may_hold_its_rows_in_one_array_of_an_object(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"version": 2, "meta": {"n": [1]}, "data": ROWS}))
    assert values(path) == ROWS


def test_a_bad_element_of_a_json_array_is_one_issue(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[{"a": 1}, {"a": NaN}, {"a": 1, "a": 2}, 5, {"a": 3}]')
    rows = read(path)
    assert [row.code for row in rows if isinstance(row, RowIssue)] == ["not_finite", "duplicate_key", "not_object"]
    assert [row.row for row in rows] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[{"a": 1}, {"a": }]', "line"),
        ('[{"a": 1}', "never ends"),
        ('[{"a": 1},]', "comma"),
        ('[{"a": 1} {"a": 2}]', "comma"),
        ('{"a": 1}\n{"a": 2}\n', ".jsonl"),
        ('{"a": [1], "b": [2]}', "2 arrays"),
        ('{"a": 1}', "0 arrays"),
        ("rows", "begins with"),
        ("[" * 100_000, "nested"),
        ("[" + "7" * 5000 + "]", "digits"),
    ],
)
def test_broken_json_names_the_place_or_the_way_out(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text)
    assert says in str(refusal(path))


def test_json_beyond_the_size_cap_points_to_json_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier.data.sources.json_file.MAX_BYTES", 10)
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(ROWS))
    assert "JSON Lines" in str(refusal(path))


def test_ragged_csv_rows_are_issues(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b'a,b\n1,2\n1\n1,2,3\n"multi\nline",2\n\n\xe9,2\n3,4\n')
    rows = read(path)
    assert [(row.row, row.code) for row in rows if isinstance(row, RowIssue)] == [
        (2, "ragged"),
        (3, "ragged"),
        (5, "not_utf8"),
    ]
    assert rows[3].value == {"a": "multi\nline", "b": "2"}
    assert (rows[-1].row, rows[-1].value) == (6, {"a": "3", "b": "4"})


def test_an_open_quote_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('a,b\n1,2\n"open,2\n3,4\n')
    good, bad = read(path)
    assert isinstance(bad, RowIssue)
    assert (good.row, bad.row) == (1, 2)
    assert "opened in line 3" in bad.reason


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"a,a\n1,2\n", "twice"), (b"a;b\n1;2\n", "separated"), (b"\xe9,b\n1,2\n", "UTF-8")],
)
def test_a_bad_header_is_an_error(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(data)
    assert says in str(refusal(path))


def test_nulls_in_parquet_count_as_absent(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    message = {"role": "user", "content": "hi", "name": None}
    pq.write_table(pa.Table.from_pylist([{"messages": [message], "extra": None}]), path)
    assert values(path) == [{"messages": [{"role": "user", "content": "hi"}]}]


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("empty.jsonl", b"", "empty"),
        ("utf16.jsonl", '{"a": 1}\n'.encode("utf-16"), "UTF-16"),
        ("utf16le.csv", "a,b\n1,2\n".encode("utf-16-le"), "not UTF-8"),
        ("packed.jsonl", gzip.compress(b'{"a": 1}\n', mtime=0), ".gz"),
        ("table.csv", b"PAR1....", ".parquet"),
        ("sheet.csv", b"PK\x03\x04....", "zip"),
        ("cut.jsonl.gz", gzip.compress(random.Random(3).randbytes(5000), mtime=0)[:-50], "cut short"),
        ("wrong.jsonl.gz", b'{"a": 1}\n', "damaged"),
        ("broken.parquet", b"PAR1 not really PAR1", "Parquet"),
        ("short.parquet", b"PAR1", "Parquet"),
        ("rows.xlsx", b"PK", "not known"),
        ("rows.txt", b"hello", "not known"),
        ("latin.json", b'["\xe9"]', "UTF-8"),
    ],
)
def test_a_bad_file_is_refused_in_words(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert says in str(refusal(path))


def test_a_folder_is_refused_with_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")
    assert "rows.jsonl" in str(refusal(tmp_path))


def test_a_missing_file_names_a_close_one(tmp_path: Path) -> None:
    (tmp_path / "tones.jsonl").write_text("{}")
    assert f"did you mean `{tmp_path / 'tones.jsonl'}`" in str(refusal(tmp_path / "tone.jsonl"))
    assert "no folder" in str(refusal(tmp_path / "none" / "tone.jsonl"))


@pytest.mark.parametrize("name", ["", "\0", "x" * 5000, "/dev/null"])
def test_what_is_no_path_is_refused(name: str) -> None:
    with pytest.raises(DataError):
        find_sources(name)


def test_a_file_named_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("{}")
    with pytest.raises(DataError, match="twice"):
        find_sources((str(path), str(tmp_path / "." / "rows.jsonl")))


def bomb(path: Path) -> Path:
    """Write a small file that unpacks to a gigabyte."""
    if path.name.endswith(".parquet"):
        table = pa.table({"text": pa.array(["x" * 1_000_000] * 1000).dictionary_encode()})
        pq.write_table(table, path, compression="zstd")
    else:
        with gzip.open(path, "wb", compresslevel=1) as file:
            for _ in range(1024):
                file.write(b" " * (1 << 20))
    return path


@pytest.mark.parametrize("name", ["bomb.jsonl.gz", "bomb.csv.gz", "bomb.json.gz", "bomb.parquet"])
def test_bombs_are_refused_fast_and_in_little_memory(tmp_path: Path, name: str) -> None:
    path = bomb(tmp_path / name)
    assert path.stat().st_size < 6 << 20
    before, started = psutil.Process().memory_info().rss, time.monotonic()
    found = refusal(path)
    assert any(words in str(found) for words in ("unpacks", "too large", "longer than 64 MB"))
    assert time.monotonic() - started < 10
    assert psutil.Process().memory_info().rss - before < 512 << 20


def test_memory_stays_flat(tmp_path: Path, record_property: Callable) -> None:
    record_property("claim", "Reading a long file takes no more memory than a short one")
    path = tmp_path / "rows.jsonl"
    row = json.dumps(labelled(1)[0]) + "\n"
    with path.open("w") as file:
        for _ in range(200):
            file.write(row * 1000)
    (source,) = find_sources(str(path))
    rows = source.rows()
    for _ in range(1000):
        next(rows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = 1000 + sum(1 for _ in rows)
    assert count == 200_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000, "kilobytes"


@pytest.mark.parametrize(
    ("name", "split", "first", "last"),
    [
        ("org/name", "train", 0, None),
        ("org/name:test", "test", 0, None),
        ("org/name:train[:4096]", "train", 0, 4096),
        ("org/name:train[10:20]", "train", 10, 20),
        ("org/name:train[:10%]", "train[:10%]", 0, None),
    ],
)
def test_hub_names(name: str, split: str, first: int, last: int | None) -> None:
    hub = HubName.parse(name)
    assert hub is not None
    assert (hub.repository, hub.split, hub.first, hub.last) == ("org/name", split, first, last)
    assert HubName.parse("org/name/subset:train").subset == "subset"


@pytest.mark.parametrize("name", ["name", "a/b/c/d", "../x", "org/name:train[oops]", "org/na me"])
def test_not_hub_names(name: str) -> None:
    assert HubName.parse(name) is None


def test_hub_rows_are_streamed_with_class_names(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    table = {"text": ["a", "b", "c"], "label": [0, 1, 1]}
    asked: dict[str, object] = {}

    def load(name: str, subset: str | None, **options: object) -> datasets.IterableDataset:
        asked.update(options, name=name)
        return datasets.Dataset.from_dict(table, features=features).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load)
    rows = read("org/name:train[1:]")
    assert [(row.row, row.value) for row in rows] == [
        (2, {"text": "b", "label": "good"}),
        (3, {"text": "c", "label": "good"}),
    ]
    assert asked == {"name": "org/name", "split": "train", "streaming": True}


@pytest.mark.parametrize("error", [ConnectionError("no route"), ValueError("Unknown split"), RuntimeError("scripts")])
def test_an_unreachable_hub_is_a_data_error(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    import datasets

    def load(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert str(error) in str(refusal("org/name"))


def test_a_range_of_a_files_rows_is_a_source(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f'{{"text": "{number}"}}\n' for number in range(10)))
    numbers = {}
    for rows in ("[:4]", "[4:6]", "[8:]"):
        (source,) = find_sources(f"{file}{rows}")
        numbers[rows] = [(row.row, row.value["text"]) for row in source.rows()]
    assert numbers == {
        "[:4]": [(i + 1, str(i)) for i in range(4)],
        "[4:6]": [(5, "4"), (6, "5")],
        "[8:]": [(9, "8"), (10, "9")],
    }
    assert len(find_sources((f"{file}[:4]", f"{file}[4:6]"))) == 2
    with pytest.raises(DataError, match="named twice"):
        find_sources((f"{file}[:5]", f"{file}[4:6]"))
    with pytest.raises(DataError, match="holds no rows"):
        find_sources(f"{file}[6:6]")


def test_ranges_of_one_file_may_be_two_splits_unless_they_overlap(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f'{{"text": "{number}"}}\n' for number in range(10)))
    opened = open_data(DataSpec(path=f"{file}[:6]", validation_path=f"{file}[6:8]"))
    assert [len(list(opened.raw_rows(part))) for part in ("train", "validation")] == [6, 2]
    with pytest.raises(DataError, match="two splits"):
        open_data(DataSpec(path=f"{file}[:7]", validation_path=f"{file}[6:8]"))
