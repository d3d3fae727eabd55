"""The room as a whole: splits on disk, a card that lists every row left out, and errors in words."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tests.data.made import TONES, labelled, questions, sentence, write_as, write_jsonl

from luthier.core.artifacts import Base, Prepared
from luthier.core.errors import DataError
from luthier.core.events import Event
from luthier.core.files import sha256_of
from luthier.data.card import DataCard
from luthier.data.room import run
from luthier.data.spec import DataSpec, SplitSpec
from luthier.examples.example import Example
from luthier.examples.store import Split
from luthier.model.load import load_tokenizer
from luthier.model.template import Template

SPLITS = ("train", "validation", "test")


class Room:
    """Runs the room in one test's folder and reads back what it wrote."""

    def __init__(self, base: Base, folder: Path) -> None:
        self.base, self.folder, self.events = base, folder, []
        self.out = folder / "run" / "data"

    def write(self, rows: list[Any], name: str = "rows.jsonl") -> str:
        return write_jsonl(self.folder / name, rows)

    def __call__(self, rows: list[Any] | None = None, *, seed: int = 7, **fields: Any) -> Prepared:
        path = fields.pop("path", None) or self.write(rows or [])
        events: list[Event] = []
        self.events = events
        return run(DataSpec(path=path, **fields), self.base, self.out, events.append, seed=seed)

    def refuses(self, rows: list[Any] | None = None, **fields: Any) -> str:
        with pytest.raises(DataError) as caught:
            self(rows, **fields)
        assert not (self.out / "artifact.json").exists()
        assert [file.name for file in self.out.iterdir()] == ["examples"]
        return str(caught.value)

    @property
    def card(self) -> DataCard:
        return DataCard.model_validate_json((self.out / "card.json").read_text())

    @property
    def warnings(self) -> list[str]:
        return [event.message for event in self.events if event.kind == "warning"]

    def examples(self, split: str) -> list[Example]:
        return list(Split(self.out / "examples" / f"{split}.arrow").examples())

    def dropped(self, code: str) -> list[int]:
        return [issue.row for issue in self.card.check.dropped if issue.code == code]


@pytest.fixture
def room(base: Base, tmp_path: Path) -> Room:
    return Room(base, tmp_path)


def test_labelled_rows_become_stratified_splits(room: Room) -> None:
    prepared = room(labelled(120))
    assert prepared.rows == {"train": 96, "validation": 12, "test": 12}
    assert (prepared.format, prepared.answer_kind, prepared.labels) == ("labelled", "closed", TONES)
    assert room.card.check.labels["neutral"] == {"train": 32, "validation": 4, "test": 4}
    assert room.warnings == []
    assert Prepared.read(room.out) == prepared
    assert [event.kind for event in room.events][0] == "start"
    assert [event.kind for event in room.events][-1] == "done"


def test_every_row_is_in_one_split_and_encoded_by_the_template(room: Room) -> None:
    prepared = room(questions(60))
    template = Template(load_tokenizer(room.base.folder))
    seen, tokens, targets, longest = [], 0, 0, 0
    for name in SPLITS:
        split = Split(prepared.split(name))
        for index in range(len(split)):
            example, encoded = split.example(index), split.encoded(index)
            assert (template.encode(example).ids, template.encode(example).targets) == (encoded.ids, encoded.targets)
            assert encoded.ids[: encoded.prompt_tokens] == template.prompt_ids(example)
            seen.append(example.row)
            longest = max(longest, len(encoded.ids))
            tokens += len(encoded.ids) * (name == "train")
            targets += sum(encoded.targets) * (name == "train")
    assert sorted(seen) == list(range(1, 61))
    assert (prepared.total_tokens, prepared.target_tokens, prepared.longest) == (tokens, targets, longest)
    assert prepared.context_tokens == 512


def test_the_split_is_a_function_of_seed_and_content(room: Room) -> None:
    rows = labelled(60)
    made = {}
    for name, order, seed in (("one", rows, 7), ("two", rows[::-1], 7), ("three", rows, 8)):
        room(path=room.write(order, f"{name}.jsonl"), seed=seed)
        made[name] = {
            split: {example.answer + example.messages[0].content for example in room.examples(split)}
            for split in SPLITS
        }
    assert made["one"] == made["two"] != made["three"]


def test_duplicates_are_kept_once_and_listed(room: Room) -> None:
    rows = questions(60)
    prepared = room([*rows, rows[3], rows[3]])
    assert sum(prepared.rows.values()) == 60
    assert room.dropped("duplicate") == [61, 62]
    assert room.card.check.dropped[0].reason.endswith("rows.jsonl:4")
    assert "2 rows left out: the same as another" in room.warnings


def test_near_duplicates_stay_in_one_split(room: Room) -> None:
    rows = questions(60)
    twins = [{**row, "completion": row["completion"] + "."} for row in rows[:30]]
    room(rows + twins, split=SplitSpec(validation=0.3, test=0.3))
    assert room.card.check.near_duplicates.count == 30
    split_of = {example.row: name for name in SPLITS for example in room.examples(name)}
    assert all(split_of[row] == split_of[row + 60] for row in range(1, 31))
    assert set(split_of.values()) == set(SPLITS)


def test_conflicting_answers_are_reported_kept_and_stay_together(room: Room) -> None:
    rows = labelled(60)
    twin = {**rows[0], "tone": "positive"}
    room([*rows, twin])
    assert room.card.check.conflicts.count == 1
    places = room.card.check.conflicts.rows[0]
    assert [place.rsplit(":")[-1] for place in places] == ["1", "61"]
    split_of = {example.row: name for name in SPLITS for example in room.examples(name)}
    assert split_of[1] == split_of[61]
    assert "1 prompt with several different answers" in room.warnings


def test_rows_that_leak_into_a_test_file_leave_training(room: Room) -> None:
    rows = questions(60)
    held = [rows[5], {**rows[6], "completion": rows[6]["completion"] + "!"}, *questions(10, seed=9)]
    prepared = room(rows, test_path=room.write(held, "test.jsonl"))
    assert prepared.rows["test"] == 12
    assert room.dropped("leak") == [6, 7]
    assert "a test row" in room.card.check.dropped[0].reason
    assert sum(prepared.rows.values()) == 58 + 12


def test_repeats_are_kept_where_that_is_asked_for(room: Room) -> None:
    rows = questions(20)
    prepared = room([*rows, rows[0]], test_path=room.write(rows[:5], "test.jsonl"), repeats="keep")
    assert (sum(prepared.rows.values()), prepared.rows["test"]) == (26, 5)
    assert not room.card.check.dropped


def test_files_of_their_own_are_honoured(room: Room) -> None:
    paths = {name: room.write(questions(20, seed=seed), f"{name}.jsonl") for seed, name in enumerate(SPLITS)}
    prepared = room(path=paths["train"], validation_path=paths["validation"], test_path=paths["test"])
    assert prepared.rows == dict.fromkeys(SPLITS, 20)
    assert {example.file for example in room.examples("test")} == {paths["test"]}


def test_one_file_cannot_be_two_splits(room: Room) -> None:
    path = room.write(questions(20))
    assert "both for train and for test" in room.refuses(path=path, test_path=path)


def test_several_files_of_several_kinds(room: Room, tmp_path: Path) -> None:
    rows = labelled(60)
    paths = (
        write_as(tmp_path / "a.csv", rows[:20]),
        write_as(tmp_path / "b.parquet.gz", rows[20:40]),
        room.write(rows[40:]),
    )
    prepared = room(path=paths)
    assert sum(prepared.rows.values()) == 60
    assert [(source.name, source.sha256) for source in room.card.sources] == [
        (path, sha256_of(Path(path))) for path in paths
    ]


def long_and_short(room: Room) -> list[dict[str, str]]:
    return [*questions(60), {"prompt": "long", "completion": sentence(random.Random(1), 400)}]


def test_too_long_rows_are_dropped_and_listed(room: Room) -> None:
    prepared = room(long_and_short(room))
    assert sum(prepared.rows.values()) == 60
    assert room.dropped("too_long") == [61]
    assert "more than 512" in room.card.check.dropped[0].reason
    assert prepared.longest <= 512


def test_too_long_rows_can_be_cut_and_are_listed(room: Room) -> None:
    prepared = room(long_and_short(room), too_long="cut")
    assert sum(prepared.rows.values()) == 61
    assert prepared.longest == 512
    assert [(issue.row, issue.code) for issue in room.card.check.cut] == [(61, "cut")]
    assert any("teaches not to stop" in warning for warning in room.warnings)


def test_a_cut_that_leaves_no_target_drops_the_row(room: Room) -> None:
    prompt = sentence(random.Random(1), 400)
    prepared = room([*questions(60), {"prompt": prompt, "completion": "x"}], too_long="cut")
    assert sum(prepared.rows.values()) == 60
    assert "none of the first 512" in room.card.check.dropped[0].reason


def test_no_example_fits(room: Room) -> None:
    text = room.refuses(questions(20), max_tokens=8)
    assert "no example fits into 8 tokens" in text
    assert "20 examples, shortest" in text
    assert "data.max_tokens" in text


def test_max_tokens_beyond_the_context_is_an_error(room: Room) -> None:
    assert "context of tiny is 512" in room.refuses(questions(20), max_tokens=513)


def chat(answer_weight: int, text: str) -> dict[str, Any]:
    answer = {"role": "assistant", "content": text, "weight": answer_weight}
    return {"messages": [{"role": "user", "content": f"Say {text}"}, answer]}


def test_rows_without_target_are_dropped_and_listed(room: Room) -> None:
    rows = [chat(int(index != 4), f"word {index} {sentence(random.Random(index))}") for index in range(60)]
    room(rows)
    assert room.dropped("no_target") == [5]


def test_only_rows_without_target_is_an_error(room: Room) -> None:
    assert "nothing to train on" in room.refuses([chat(0, f"word {index}") for index in range(20)])


def test_unreadable_rows_stop_the_run_and_are_listed(room: Room, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    good = [json.dumps(row) for row in questions(40)]
    path.write_text("\n".join([*good, *["{broken"] * 25, '{"prompt": "x"}']))
    text = room.refuses(path=str(path))
    assert "26 rows cannot be read" in text
    assert "bad.jsonl:41: not JSON" in text
    assert "and 6 more" in text
    assert "data.unreadable_rows: skip" in text


def test_unreadable_rows_can_be_skipped_and_are_listed(room: Room, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    lines = [json.dumps(row) for row in questions(60)]
    lines[9], lines[19] = '{"prompt": NaN}', '{"prompt": "x"}'
    path.write_text("\n".join(lines))
    prepared = room(path=str(path), unreadable_rows="skip")
    assert sum(prepared.rows.values()) == 58
    found = [(issue.row, issue.code, issue.pointer) for issue in room.card.check.unreadable]
    assert found == [(10, "not_finite", ""), (20, "missing_column", "/completion")]
    assert "2 rows left out: unreadable" in room.warnings


def test_rows_the_template_refuses_are_unreadable(room: Room) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": "{broken"}}
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    text = room.refuses([chat(1, "fine"), {"messages": messages}])
    assert "rows.jsonl:2: the arguments of a tool call are not JSON" in text


def test_few_rows_and_empty_splits_are_said(room: Room) -> None:
    prepared = room(questions(4))
    assert prepared.rows == {"train": 4, "validation": 0, "test": 0}
    assert room.warnings == [
        "only 4 rows: results will vary by luck",
        "a share of 0.1 of 4 rows gives no validation rows",
        "a share of 0.1 of 4 rows gives no test rows",
    ]
    assert len(Split(prepared.split("test"))) == 0


def test_rows_that_are_all_alike_are_not_torn_apart(room: Room) -> None:
    text = sentence(random.Random(1), 20)
    prepared = room([{"prompt": text, "completion": f"{text} {index}"} for index in range(9)])
    assert prepared.rows == {"train": 9, "validation": 0, "test": 0}
    assert any("stay together" in warning for warning in room.warnings)


def test_plain_text_is_prepared(room: Room) -> None:
    draw = random.Random(3)
    prepared = room([{"text": sentence(draw)} for _ in range(60)])
    assert (prepared.format, prepared.answer_kind) == ("text", "text")
    assert prepared.target_tokens == prepared.total_tokens


def test_labels_only_the_test_has_are_said(room: Room) -> None:
    held = [{"phrase": sentence(random.Random(n + 99)), "tone": "odd"} for n in range(4)]
    room(labelled(60), test_path=room.write(held, "test.jsonl"))
    assert room.card.check.untrained_labels == ("odd",)
    assert "no training row has the label 'odd'" in room.warnings


def test_suspects_are_counted_and_never_repeated(room: Room) -> None:
    rows = questions(60)
    rows[7]["prompt"] += " ann@mail.org"
    rows[8]["completion"] += " password=" + "hunter2hunter2"
    room(rows)
    found = {suspect.kind: (suspect.secret, suspect.count, suspect.rows) for suspect in room.card.check.suspects}
    place = str(room.folder / "rows.jsonl")
    assert found == {
        "e-mail address": (False, 1, (f"{place}:8",)),
        "password or token": (True, 1, (f"{place}:9",)),
    }
    told = (room.out / "card.json").read_text() + "".join(event.model_dump_json() for event in room.events)
    assert "hunter2" not in told
    assert "ann@" not in told


def test_columns_that_are_not_used_are_said(room: Room) -> None:
    room([{**row, "id": index} for index, row in enumerate(questions(60))])
    assert "columns not used: `id`" in [event.message for event in room.events]
    assert room.card.unused_columns == ("id",)


def test_the_same_data_is_taken_from_the_cache(room: Room) -> None:
    rows = questions(60)
    first = room(rows)
    kept = {name: sha256_of(first.split(name)) for name in SPLITS}
    again = room(rows)
    assert any("cache" in event.message for event in room.events)
    assert {name: sha256_of(again.split(name)) for name in SPLITS} == kept
    assert again.model_copy(update={"seconds": first.seconds}) == first
    room(rows, seed=8)
    assert not any("cache" in event.message for event in room.events)
    room(questions(60, seed=1))
    assert not any("cache" in event.message for event in room.events)


def test_a_damaged_cache_is_not_used(room: Room, tmp_path: Path) -> None:
    rows = questions(60)
    room(rows)
    kept = sha256_of(room.out / "examples" / "train.arrow")
    for file in (tmp_path / "cache").rglob("train.arrow"):
        file.unlink()
        file.write_bytes(b"damaged")
    room(rows)
    assert not any("cache" in event.message for event in room.events)
    assert sha256_of(room.out / "examples" / "train.arrow") == kept


def test_a_cache_that_cannot_be_written_is_no_error(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    (room.folder / "file").write_text("")
    monkeypatch.setenv("LUTHIER_CACHE", str(room.folder / "file"))
    assert room(questions(60)).rows["train"] == 48


def test_nothing_is_left_beside_the_result(room: Room) -> None:
    room(questions(60))
    files = sorted(str(file.relative_to(room.out)) for file in room.out.rglob("*") if file.is_file())
    assert files == ["artifact.json", "card.json", *(f"examples/{name}.arrow" for name in sorted(SPLITS))]
