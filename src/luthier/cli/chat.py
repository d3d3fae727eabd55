"""`luthier chat`: talk to a tuned model."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli.options import RunName
from luthier.cli.tell import say
from luthier.core.errors import DataError

if TYPE_CHECKING:
    from luthier.jobs.chat import Chat


def chat(
    run: RunName,
    base: Annotated[bool, typer.Option("--base", help="Talk to the untuned base model instead.")] = False,
    once: Annotated[str | None, typer.Option("--once", metavar="TEXT", help="Answer one message and leave.")] = None,
) -> None:
    """Talk to the tuned model.

    Without a terminal, each line of stdin is a message.
    """
    from luthier.cli.progress import Progress
    from luthier.core.runfolder import find_run
    from luthier.core.settings import runs_dir
    from luthier.jobs.chat import open_chat

    folder = find_run(run, runs_dir())
    with Progress() as progress:
        talk = open_chat(folder, base_only=base, emit=progress)
    if once is None:
        _introduce(talk)
    for text in [once] if once is not None else _messages():
        if text == "/new":
            talk.forget()
            continue
        try:
            for piece in talk.answer(text):
                print(piece, end="", flush=True)
        except DataError as error:
            # A person who talks can go on; a program needs the exit status.
            if once is not None or not sys.stdin.isatty():
                raise
            say(str(error))
        print(flush=True)


def _introduce(talk: "Chat") -> None:
    if talk.manner.instruction:
        say(f"each message is put after the instruction of the training rows:\n  {talk.manner.instruction.strip()}")
    if sys.stdin.isatty():
        say("/new forgets the conversation, /exit leaves")


def _messages() -> Iterator[str]:
    """Yield what a person types, or the lines of a pipe, up to `/exit`."""
    while True:
        try:
            line = input("> ") if sys.stdin.isatty() else input()
        except EOFError:
            return
        text = line.strip()
        if text == "/exit":
            return
        if text:
            yield text
