"""The data room's door: from what a recipe says about data to tokenised splits."""

import shutil
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa

from luthier.core.artifacts import Base, Prepared
from luthier.core.errors import DataError
from luthier.core.events import Emit, Event
from luthier.core.files import disk_errors, sha256_of_json, write_atomic
from luthier.data.cache import cache_key, keep, restore
from luthier.data.card import FILE, DataCard, make_card
from luthier.data.check import DataCheck
from luthier.data.formats.preference import Preference
from luthier.data.opened import PARTS
from luthier.data.preparing import Preparing, prepare
from luthier.data.spec import DataSpec
from luthier.examples.store import Split, SplitWriter


def run(spec: DataSpec, given: Base, out: Path, emit: Emit, *, seed: int) -> Prepared:
    """Write the tokenised splits and `card.json`, in which every row left out is listed."""
    started_s = time.monotonic()
    emit(Event(room="data", kind="start", message="reading data"))
    with disk_errors(out):
        (out / "examples").mkdir(parents=True, exist_ok=True)
    key = cache_key(spec, given, seed=seed)
    if key and restore(key, out):
        card = DataCard.model_validate_json((out / FILE).read_text(encoding="utf-8"))
        emit(Event(room="data", kind="note", message="the same rows were prepared before: taken from the cache"))
    else:
        card = _prepare(spec, given, out, emit, seed=seed)
        if key:
            keep(key, out)
    for warning in [*card.check.warnings(), *_empty_splits(spec, card)]:
        emit(Event(room="data", kind="warning", message=warning))
    rows = ", ".join(f"{name} {count:,}" for name, count in card.rows.items())
    emit(Event(room="data", kind="done", message=f"rows: {rows}", data={"rows": card.rows}))
    return _artifact(card, given, out, seconds=time.monotonic() - started_s).write(out)


def check(spec: DataSpec, given: Base, emit: Emit, *, seed: int) -> DataCheck:
    """Check the data without keeping anything; rows that cannot be read are listed, not an error."""
    with tempfile.TemporaryDirectory(prefix="luthier-") as folder:
        lenient = spec.model_copy(update={"unreadable_rows": "skip"})
        return prepare(lenient, given, folder=Path(folder), emit=emit, seed=seed).check()


def _prepare(spec: DataSpec, given: Base, out: Path, emit: Emit, *, seed: int) -> DataCard:
    for left in out.glob(".aside-*"):
        shutil.rmtree(left, ignore_errors=True)
    # Beside the result and not in /tmp, which may be memory: all tokens are put aside here once.
    with disk_errors(out), tempfile.TemporaryDirectory(prefix=".aside-", dir=out) as folder:
        prepared = prepare(spec, given, folder=Path(folder), emit=emit, seed=seed)
        _check_usable(prepared)
        _write_splits(prepared, out)
        card = make_card(prepared, seed=seed)
    (out / FILE).unlink(missing_ok=True)
    write_atomic(out / FILE, card.model_dump_json(indent=2) + "\n")
    return card


def _write_splits(prepared: Preparing, out: Path) -> None:
    with ExitStack() as stack:
        writers = [stack.enter_context(_writer(out / "examples" / f"{name}.arrow")) for name in PARTS]
        at = 0
        for batch in Split(prepared.survey.rows_file).batches():
            parts = prepared.parts[at : at + batch.num_rows]
            at += batch.num_rows
            for part, writer in enumerate(writers):
                writer.add_batch(batch.filter(pa.array(parts == part)))


def _writer(path: Path) -> SplitWriter:
    # An old file may be hard-linked with the cache: it is replaced, never written into.
    path.unlink(missing_ok=True)
    return SplitWriter(path)


def _check_usable(prepared: Preparing) -> None:
    if (prepared.parts == 0).any():
        return
    survey = prepared.survey
    codes = Counter(issue.code for issue in survey.dropped)
    files = ", ".join(survey.files)
    if not survey.lengths:
        why = str(survey.unreadable[0]) if survey.unreadable else None
        hint = "repair them; `luthier data check` lists what is wrong"
        raise DataError("no row can be read", where={"file": files}, why=why, hint=hint)
    if codes["no_target"] == len(survey.lengths):
        why, hint = "no row has an assistant's turn of weight 1", "give the turns to learn a weight of 1"
        if prepared.opened.format.name == Preference.name:
            why, hint = "both answers of every pair are the same", "give each pair a better and a worse answer"
        raise DataError("there is nothing to train on", where={"file": files}, why=why, hint=hint)
    if codes["too_long"]:
        shortest = min(survey.lengths)
        where = {"file": f"{files} ({len(survey.lengths):,} examples, shortest {shortest:,} tokens)"}
        hint = f"set `data.max_tokens` to {shortest:,} or more if the model's context allows, or use shorter rows"
        what = f"no example fits into {prepared.limit:,} tokens"
        raise DataError(what, where=where | {"field": "data.max_tokens"}, hint=hint)
    why = f"{codes['leak']:,} rows say nearly the same as rows held out"
    hint = "hold out other rows: `luthier data check` lists which are the same"
    raise DataError("no rows are left to train on", where={"file": files}, why=why, hint=hint)


def _empty_splits(spec: DataSpec, card: DataCard) -> list[str]:
    shares = {"validation": spec.split.validation, "test": spec.split.test}
    paths = {"validation": spec.validation_path, "test": spec.test_path}
    rows = sum(card.rows.values())
    return [
        f"a share of {share:g} of {rows} rows gives no {part} rows"
        + (": near-duplicates and rows with the same prompt stay together" if round(share * rows) else "")
        for part, share in shares.items()
        if share and not card.rows[part] and not paths[part]
    ]


def _artifact(card: DataCard, given: Base, out: Path, *, seconds: float) -> Prepared:
    return Prepared(
        seconds=seconds,
        folder=out,
        base=given,
        format=card.format,
        rows=card.rows,
        target_tokens=card.target_tokens,
        total_tokens=card.total_tokens,
        longest=card.longest,
        labels=card.labels,
        answer_kind=card.answer_kind,
        data_sha256=sha256_of_json([source.sha256 for source in card.sources]),
        context_tokens=card.limit,
    )
