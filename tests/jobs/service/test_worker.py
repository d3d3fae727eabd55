"""What a worker says of its own end; that it does its work is shown in `test_life.py`."""

import errno
from pathlib import Path

import pytest

from luthier.core.errors import DataError, LuthierError, ResourceError, TrainingError
from luthier.core.files import disk_errors
from luthier.jobs.service.worker import error_of


def full_disk(tmp_path: Path) -> ResourceError:
    with pytest.raises(ResourceError) as error, disk_errors(tmp_path / "file"):
        raise OSError(errno.ENOSPC, "No space left on device")
    return error.value


def test_a_full_disk_has_its_own_code(tmp_path: Path) -> None:
    error = error_of(full_disk(tmp_path))
    assert error.code == "disk_full" and error.message.startswith("The disk is full") and "/" not in error.message


@pytest.mark.parametrize("error", [MemoryError(), ResourceError("out of memory", where={"step": 3})])
def test_want_of_memory_has_its_own_code(error: Exception) -> None:
    assert error_of(error).code == "out_of_memory"


def test_a_foreseen_error_is_one_line_without_this_machine_s_paths() -> None:
    where = {"file": "/home/me/secret/rows.jsonl", "step": 12, "rows": "rows.jsonl:4"}
    why = "the file /home/me/rows.jsonl\n  is torn"
    error = error_of(TrainingError("the loss is nan", where=where, why=why, hint="look at them"))
    assert error.code == "training_failed"
    assert error.message == "The loss is nan; step 12; rows rows.jsonl:4; the file rows.jsonl is torn; look at them"
    assert error_of(DataError("no row", where={"file": "/a/b"}, hint="h")).message == "No row; h"
    assert error_of(LuthierError("x")).code == "error"


def test_an_unforeseen_error_tells_its_kind_and_place_and_no_content() -> None:
    try:
        raise ValueError("the row says: my password is hunter2")
    except ValueError as caught:
        error = error_of(caught)
    assert error.code == "server_error" and "hunter2" not in error.message
    assert error.message.startswith("An internal error ended the job: ValueError in test_worker.py:")
