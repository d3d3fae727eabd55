import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.jobs.service.made import chat_lines, chat_row, lines_of

from luthier.jobs.service.examine import StoppedError, examine
from luthier.jobs.service.records import Hyperparameters, JobError, JobRecord

INVALID = "The job failed due to an invalid training file. Invalid file format. "


def job_of(**more: object) -> JobRecord:
    values = {
        "id": "ftjob-x", "created_at": 1, "model": "tiny", "base": "tiny", "method": "supervised", "seed": 1,
        "status": "validating_files", "training_file": "file-t", "hyperparameters": Hyperparameters(),
    }  # fmt: skip
    return JobRecord.model_validate(values | more)


def error_of(tmp_path: Path, data: bytes, validation: bytes | None = None, **more: object) -> JobError | None:
    (tmp_path / "training.jsonl").write_bytes(data)
    if validation is not None:
        (tmp_path / "validation.jsonl").write_bytes(validation)
        more["validation_file"] = "file-v"
    return examine(job_of(**more), tmp_path, threading.Event())


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
EVERYTHING = [
    {"role": "developer", "content": [{"type": "text", "text": "a\u2028b"}]},
    {"role": "user", "name": "me", "content": "q"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "1", "content": "4"},
    {"role": "assistant", "content": "four", "weight": 0},
    {"role": "user", "content": "q"},
    {"role": "assistant", "content": "a", "weight": 1},
]
GOOD = [
    chat_lines(10),
    b"\xef\xbb\xbf" + chat_lines(10),
    chat_lines(10).replace(b"\n", b"\r\n"),
    chat_lines(10).replace(b"\n", b"\n\n").rstrip(),
    lines_of([{"prompt": f"say {n}", "completion": str(n)} for n in range(10)]),
    lines_of([chat_row(n) | {"tools": [], "parallel_tool_calls": False} for n in range(10)]),
    chat_lines(9) + lines_of([{"messages": EVERYTHING}]),
]


@pytest.mark.parametrize("data", GOOD)
def test_good_files_pass(tmp_path: Path, data: bytes) -> None:
    assert error_of(tmp_path, data) is None
    assert error_of(tmp_path, data, validation=chat_lines(1)) is None


@pytest.mark.parametrize("count", [1, 3, 9])
def test_too_few_examples(tmp_path: Path, count: int) -> None:
    error = error_of(tmp_path, chat_lines(count))
    what = f"Training file has {count} example(s), but must have at least 10 examples"
    assert error == JobError(code="invalid_n_examples", message=what, param="training_file")


USER, NO_ANSWER = {"role": "user", "content": "q"}, "no assistant message: nothing to learn from (at /messages)"
ROLES = "system, developer, user, assistant, tool"
BROKEN = [
    ([USER, {"content": "a"}], ", message 2 Discriminator 'role' is missing in value"),
    ([{"role": "robot", "content": "q"}], f", message 1: the role is 'robot', not one of {ROLES}"),
    ([USER], f": {NO_ANSWER}"),
    ([], f": {NO_ANSWER}"),
    ("hello", ": `messages` is not a list (at /messages)"),
    ([1], ", message 1: not an object"),
    ([{"role": "user"}, {"role": "assistant", "content": "a"}], ", message 1: no content"),
    ([{"role": "assistant", "content": "a", "weight": 2}], ", message 1: weight is neither 0 nor 1"),
]


@pytest.mark.parametrize(("messages", "text"), BROKEN)
def test_the_broken_message_is_named(tmp_path: Path, messages: object, text: str) -> None:
    rows: list[object] = [chat_row(number) for number in range(12)]
    rows[6] = {"messages": messages}
    error = error_of(tmp_path, lines_of(rows))
    what = f"{INVALID}Example 7{text}"
    assert error == JobError(code="invalid_training_file", message=what, param="training_file")


@pytest.mark.parametrize(
    ("row", "code", "text"),
    [
        ({"prompt": "q", "completion": "a"}, "invalid_file_format", 'Example 7 contains an extra "completion".'),
        ([1], "invalid_training_file", "Example 7: the row is a list, not an object"),
        ("text", "invalid_training_file", "Example 7 is not a dictionary"),
        ({}, "invalid_training_file", "Example 7: no `messages` (at /messages)"),
    ],
)
def test_the_broken_example_is_named(tmp_path: Path, row: object, code: str, text: str) -> None:
    rows = [chat_row(number) for number in range(12)]
    error = error_of(tmp_path, lines_of([*rows[:6], row, *rows[6:]]))
    assert error is not None and error.code == code and error.message.endswith(text)


def test_an_extra_key_is_a_format_error(tmp_path: Path) -> None:
    error = error_of(tmp_path, lines_of([chat_row(0) | {"weight": 1}]) + chat_lines(12))
    what = "The job failed due to a file format error in the training file. Invalid file format. "
    what += 'Example 1 contains an extra "weight".'
    assert error == JobError(code="invalid_file_format", message=what, param="training_file")


@pytest.mark.parametrize(
    "line", [b"{", b'{"a": NaN}', b'{"a": 1e999}', b"\xff", b'{"a":' * 5000, b'{"a": 1, "a": 2}', b'{"a": "\\ud800"}']
)
def test_lines_that_are_no_json_are_named(tmp_path: Path, line: bytes) -> None:
    error = error_of(tmp_path, chat_lines(11) + line + b"\n" + chat_lines(3))
    assert error is not None and error.code == "invalid_training_file"
    assert error.message.startswith(INVALID + "Example 12 cannot be parsed. Error: line contains invalid json: ")


def test_all_problems_are_told_up_to_a_cap(tmp_path: Path) -> None:
    error = error_of(tmp_path, b"{\n" * 500 + chat_lines(12))
    assert error is not None and error.message.count("cannot be parsed") == 10


def test_the_wrong_kind_of_file_for_the_method(tmp_path: Path) -> None:
    error = error_of(tmp_path, chat_lines(12), method="dpo")
    assert error is not None and error.code == "invalid_training_file"
    assert error.message == (
        "The job failed due to an invalid training file. Input file file-t is in the fine-tune-chat format, "
        "but the specified fine-tuning job is not using 'supervised' fine-tuning (provided method=dpo)."
    )


def pair_row(number: int, *, old: bool = False) -> dict[str, object]:
    kind = "completion" if old else "output"
    good, bad = ([{"role": "assistant", "content": text}] for text in (f"{number}!", "no"))
    asked = {"messages": [{"role": "user", "content": f"say {number}"}]}
    return {"input": asked, f"preferred_{kind}": good, f"non_preferred_{kind}": bad}


@pytest.mark.parametrize("old", [False, True])
def test_pairs_are_for_dpo_alone(tmp_path: Path, old: bool) -> None:
    data = lines_of([pair_row(number, old=old) for number in range(10)])
    assert error_of(tmp_path, data, method="dpo") is None
    assert error_of(tmp_path, data, validation=data, method="dpo") is None
    error = error_of(tmp_path, data)
    assert error is not None and error.message.endswith(
        "Input file file-t is in the fine-tune-preference format, but the specified fine-tuning job is not using "
        "'dpo' fine-tuning (provided method=supervised)."
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"extra": 1}, 'Example 3 contains an extra "extra".'),
        ({"input": {"messages": [{"content": "q"}]}}, "Example 3, message 1 Discriminator 'role' is missing in value"),
        ({"preferred_output": []}, "Example 3: the answer is not an assistant message (at /preferred_output)"),
        ({"input": None}, "Example 3: no prompt: nothing says what is answered (at /prompt)"),
    ],
)
def test_the_broken_pair_is_named(tmp_path: Path, change: dict[str, object], text: str) -> None:
    rows = [pair_row(number) for number in range(12)]
    rows[2] |= change
    error = error_of(tmp_path, lines_of(rows), method="dpo")
    assert error is not None and error.message.endswith(text)


def test_the_validation_file_is_read_too(tmp_path: Path) -> None:
    error = error_of(tmp_path, chat_lines(12), validation=b'{"messages": 1}\n')
    assert error is not None and (error.code, error.param) == ("invalid_validation_file", "validation_file")
    empty = error_of(tmp_path, chat_lines(12), validation=b"\n\n")
    assert empty is not None and empty.message == "Validation file has 0 example(s)"


@pytest.mark.parametrize("head", [b"\x1f\x8b", b"PAR1", b"PK\x03\x04", b"\xff\xfe", b"{\0"])
def test_what_is_no_text_is_refused(tmp_path: Path, head: bytes) -> None:
    error = error_of(tmp_path, head + chat_lines(12))
    assert error is not None and error.code == "invalid_training_file" and str(tmp_path) not in error.message


def test_reading_stops_when_the_server_does(tmp_path: Path) -> None:
    (tmp_path / "training.jsonl").write_bytes(chat_lines(12))
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        examine(job_of(), tmp_path, stop)


def test_reading_files_loads_nothing_heavy() -> None:
    heavy = "('torch', 'transformers', 'peft', 'datasets', 'fastapi')"
    code = f"import sys, luthier.jobs.service.service as s; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
