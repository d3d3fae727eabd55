"""Data options of other programs: a data set's name or files, slices of its splits, and a text template."""

import re
from dataclasses import dataclass
from pathlib import Path

from luthier.jobs.doors.draft import Draft

SLICE = re.compile(r"(?P<split>\w+)(?:\[(?P<first>\d*%?):(?P<last>\d*%?)\])?")
LOADERS = ("json", "csv", "parquet", "text")
"""Names of the datasets library for local files, beside which `data_files` is named."""
ESCAPES = {"\\n": "\n", "\\t": "\t"}


@dataclass(frozen=True)
class Names:
    """The options' names, for messages."""

    name: str = "data_name"
    files: str = "data_files"
    train: str = "train_split"
    held_out: str = "eval_split"
    template: str = "text_template"
    subset: str = "subset"


@dataclass(frozen=True)
class Rows:
    """What was asked for."""

    name: str | None = None
    files: tuple[str, ...] = ()
    train: str | None = None
    held_out: str | None = None
    template: str | None = None
    subset: str | None = None


def data_options(draft: Draft, rows: Rows, names: Names = Names()) -> None:
    """Put the rows into the draft."""
    given = (rows.name, rows.train, rows.held_out, rows.template, rows.subset)
    told = (names.name, names.train, names.held_out, names.template, names.subset)
    if any(value is not None and draft.text(value, name) is None for value, name in zip(given, told, strict=True)):
        return
    sources = _sources(draft, rows, names)
    if not sources:
        return
    for path, split, option in (
        ("data.path", rows.train or "train", names.train),
        ("data.validation_path", rows.held_out, names.held_out),
    ):
        if (
            split is not None
            and (found := _sliced(draft, sources, split, option, is_file=bool(rows.files))) is not None
        ):
            draft.set(path, found[0] if len(found) == 1 else found, option)
    if rows.template is not None:
        draft.set("data.text_template", unescaped(rows.template), names.template)


def _sources(draft: Draft, rows: Rows, names: Names) -> list[str]:
    if rows.files:
        if rows.name not in (None, *LOADERS):
            draft.refuse(names.files, f"`{names.name}` names a data set already", "keep one of them")
        if rows.subset:
            draft.refuse(names.subset, "files have no subsets", "leave it out")
        return list(rows.files)
    if not rows.name:
        draft.refuse(
            names.name, "no data is named", f"name a hub data set with `{names.name}`, or files with `{names.files}`"
        )
        return []
    if rows.name in LOADERS:
        draft.refuse(
            names.name, f"`{rows.name}` is a kind of file, and no file is named", f"name files with `{names.files}`"
        )
        return []
    return [f"{rows.name}/{rows.subset}" if rows.subset else rows.name]


def _sliced(draft: Draft, sources: list[str], split: str, option: str, *, is_file: bool) -> list[str] | None:
    """Return the sources with the split's rows: `org/name:train[:4096]`, or `rows.json[:4096]` of a file."""
    found = SLICE.fullmatch(split.strip())
    if found is None:
        draft.refuse(option, f"`{split}` is no split", "such as train, or train[:4096]")
        return None
    if not is_file and not Path(sources[0]).exists():
        return [f"{source}:{split.strip()}" for source in sources]
    if found["split"] != "train":
        why = f"a file has no split `{found['split']}`"
        draft.refuse(option, why, "take rows of it: train[:4096] and train[4096:4224]")
        return None
    first, last = found["first"], found["last"]
    if first is None:
        return sources
    if "%" in first + last or len(sources) > 1:
        why = (
            "shares of a file are not counted"
            if "%" in first + last
            else "rows of several files are not counted through"
        )
        draft.refuse(option, why, "name rows of one file: train[:4096]")
        return None
    return [f"{sources[0]}[{first}:{last}]"]


def unescaped(template: str) -> str:
    """Return a template with its line breaks: a shell hands on backslash and n as they stand."""
    for written, meant in ESCAPES.items():
        template = template.replace(written, meant)
    return template
