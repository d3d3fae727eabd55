import io
import sys
from pathlib import Path

import pytest

from luthier.cli import app as commands
from luthier.cli import main as door
from luthier.core.errors import DataError, Interrupted


def status_of(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    def work() -> None:
        raise error

    monkeypatch.setattr(commands, "work", work)
    monkeypatch.setattr(sys, "argv", ["luthier", "run"])
    return door._status()


def test_a_known_error_is_text_and_a_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(monkeypatch, DataError("no rows", hint="add some")) == 3
    assert capsys.readouterr().err == "error: no rows\nhint: add some\n"
    assert status_of(monkeypatch, Interrupted("stopped")) == 130


def test_ctrl_c_outside_a_command_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped() -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(door, "_status", stopped)
    monkeypatch.setattr(door.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["luthier", "run"])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO()))
    with pytest.raises(SystemExit) as left:
        door.main()
    sys.stderr.seek(0)
    assert left.value.code == 130 and sys.stderr.read() == "error: stopped\n"


def test_an_unforeseen_error_is_one_line_and_a_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(door.tempfile, "gettempdir", lambda: str(tmp_path))
    assert status_of(monkeypatch, ZeroDivisionError("oh")) == door.CRASH_STATUS
    told = capsys.readouterr().err
    log = next(tmp_path.iterdir())
    assert told.count("\n") == 1 and str(log) in told and "ZeroDivisionError: oh" in log.read_text()
    monkeypatch.setattr(door.tempfile, "gettempdir", lambda: str(tmp_path / "none"))
    assert status_of(monkeypatch, ZeroDivisionError("oh")) == door.CRASH_STATUS
    assert "could not be saved" in capsys.readouterr().err
