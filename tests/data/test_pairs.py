"""Pairs through the data room: stored whole, split by prompt and better answer, left out where they say nothing."""

import random
from pathlib import Path
from typing import Any

import pytest
from tests.data.made import pairs, questions, sentence, write_jsonl

from luthier.cli.data import row_text
from luthier.core.artifacts import Base, Prepared
from luthier.core.errors import DataError
from luthier.core.events import Event
from luthier.data.card import DataCard
from luthier.data.formats.preference import Preference
from luthier.data.look import look
from luthier.data.preview import PreviewRow, preview
from luthier.data.room import run
from luthier.data.spec import DataSpec
from luthier.examples.store import Split
from luthier.model.load import load_tokenizer
from luthier.model.template import Template


def prepare(base: Base, folder: Path, rows: list[dict[str, Any]], **fields: Any) -> tuple[Prepared, DataCard]:
    events: list[Event] = []
    spec = DataSpec(path=write_jsonl(folder / "rows.jsonl", rows), **fields)
    prepared = run(spec, base, folder / "out", events.append, seed=7)
    return prepared, DataCard.model_validate_json((folder / "out" / "card.json").read_text())


def test_pairs_are_tokenised_whole_and_share_their_prompt(base: Base, tmp_path: Path) -> None:
    prepared, card = prepare(base, tmp_path, pairs(60))
    assert (prepared.format, prepared.answer_kind, prepared.labels) == ("preference", "pair", ())
    template, tokens, longest = Template(load_tokenizer(base.folder)), 0, 0
    for name, count in prepared.rows.items():
        split = Split(prepared.split(name))
        for index in range(count):
            example, row = split.example(index), split.encoded(index)
            other = template.encode(example.with_rejected)
            assert (row.ids, row.targets) == (template.encode(example).ids, template.encode(example).targets)
            assert (row.rejected.ids, row.rejected.targets) == (other.ids, other.targets)
            assert row.ids[: row.prompt_tokens] == row.rejected.ids[: row.prompt_tokens]
            tokens += (len(row.ids) + len(other.ids)) * (name == "train")
            longest = max(longest, len(row.ids), len(other.ids))
    assert sum(prepared.rows.values()) == 60 and (prepared.total_tokens, prepared.longest) == (tokens, longest)
    assert card.check.conflicts.count == 0


def test_pairs_of_one_prompt_stay_together_and_do_not_contradict_each_other(base: Base, tmp_path: Path) -> None:
    rows = [row | {"rejected": sentence(random.Random(i))} for i, row in enumerate(pairs(40) * 2)]
    prepared, card = prepare(base, tmp_path, rows)
    parts = [
        {Split(prepared.split(name)).example(i).messages[0].content for i in range(count)}
        for name, count in prepared.rows.items()
    ]
    assert all(parts) and not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert card.check.conflicts.count == card.check.count("duplicate") == 0
    assert card.check.near_duplicates.count == 40


def test_pairs_that_say_nothing_are_left_out(base: Base, tmp_path: Path) -> None:
    rows = pairs(30)
    same = {"prompt": "p", "chosen": "the same", "rejected": "the same"}
    _, card = prepare(base, tmp_path, [*rows, same, rows[3]])
    assert [issue.row for issue in card.check.dropped if issue.code == "no_target"] == [31]
    assert [issue.row for issue in card.check.dropped if issue.code == "duplicate"] == [32]
    with pytest.raises(DataError, match="nothing to train on") as caught:
        prepare(base, tmp_path, [same])
    assert "both answers of every pair" in caught.value.why


@pytest.mark.parametrize("too_long", ["drop", "cut"])
def test_the_longer_answer_counts(base: Base, tmp_path: Path, too_long: str) -> None:
    rows = pairs(30)
    rows[4] = {"prompt": "p", "chosen": "short", "rejected": sentence(random.Random(0), 200)}
    prepared, card = prepare(base, tmp_path, rows, too_long=too_long, max_tokens=300)
    left_out = [issue.row for issue in card.check.dropped if issue.code == "too_long"]
    assert left_out == ([5] if too_long == "drop" else []) and [i.row for i in card.check.cut] == [5][len(left_out) :]
    assert (prepared.longest == 300) == (too_long == "cut")


def test_secrets_in_the_worse_answer_are_seen(base: Base, tmp_path: Path) -> None:
    rows = pairs(30)
    rows[2]["rejected"] = "write to ann@firm.org"
    _, card = prepare(base, tmp_path, rows)
    (suspect,) = card.check.suspects
    assert suspect.kind == "e-mail address" and [Path(row).name for row in suspect.rows] == ["rows.jsonl:3"]


def test_a_look_counts_both_answers(base: Base, tmp_path: Path) -> None:
    template = Template(load_tokenizer(base.folder))
    row = {"prompt": "p", "chosen": "short", "rejected": "a longer one"}
    facts = look(DataSpec(path=write_jsonl(tmp_path / "rows.jsonl", [row])), encode=template.encode)
    prompt = len(template.prompt_ids(Preference("chosen", "rejected").read(row)))
    lengths = [prompt + len(template.tokenizer(row[name])["input_ids"]) + 1 for name in ("chosen", "rejected")]
    assert (facts.format, facts.answer_kind, facts.mean_tokens) == ("preference", "pair", sum(lengths))
    assert (facts.longest_tokens, facts.longest_answer_tokens) == (lengths[1], lengths[1] - prompt)


def test_a_preview_shows_both_answers(base: Base, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "p", "chosen": "yes", "rejected": "no no"}])
    (shown,) = preview(DataSpec(path=path), base)
    assert isinstance(shown, PreviewRow)
    assert [(piece.text, piece.target) for piece in shown.rejected] == [("no no<|im_end|>", True)]
    text = row_text(shown, ("[[", "]]"))
    assert text.endswith("assistant\n[[yes<|im_end|>]]\n--- rejected\n[[no no<|im_end|>]]")


def test_rows_without_pairs_keep_their_keys(base: Base, tmp_path: Path) -> None:
    """What the split is drawn by: it must not change for data that has no pairs, in this version or a later one."""
    prepared, _ = prepare(base, tmp_path, questions(30))
    split = Split(prepared.split("test"))
    assert sorted(split.example(i).row for i in range(len(split))) == [4, 9, 18]
