"""Talking: a message that cannot be answered ends a program's run, not a person's conversation."""

import io
from collections.abc import Iterator

import pytest

from luthier.cli import chat
from luthier.core.errors import DataError
from luthier.export.manifest import Manner


class Talk:
    """A conversation that answers every message but a long one."""

    manner = Manner()

    def answer(self, text: str) -> Iterator[str]:
        if text == "long":
            raise DataError("this message is too long", hint="write less")
        yield from ("re: ", text)

    def forget(self) -> None:
        pass


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch):
    def said(stdin: io.StringIO) -> None:
        monkeypatch.setattr("sys.stdin", stdin)
        monkeypatch.setattr("luthier.core.runfolder.find_run", lambda name, runs: name)
        monkeypatch.setattr("luthier.jobs.chat.open_chat", lambda *_, **__: Talk())
        chat.chat("run")

    return said


def test_a_person_goes_on_after_a_message_that_is_too_long(typed, capsys: pytest.CaptureFixture[str]) -> None:
    typed(Terminal("hi\nlong\nbye\n/exit\nnever\n"))
    out, err = capsys.readouterr()
    assert "re: hi\n" in out and "re: bye\n" in out and "never" not in out
    assert "error: this message is too long" in err


def test_a_program_gets_the_error(typed) -> None:
    with pytest.raises(DataError, match="too long"):
        typed(io.StringIO("hi\nlong\nbye\n"))
