"""`luthier chat`: talk to a tuned model."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli.tell import say
from luthier.core.errors import DataError, RecipeError

if TYPE_CHECKING:
    from luthier.core.events import Emit
    from luthier.jobs.chat import Chat


def chat(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's name or folder, or an export's folder.")],
    base: Annotated[bool, typer.Option("--base", help="Talk to the untuned base model instead.")] = False,
    adapter: Annotated[
        str | None, typer.Option("--adapter", metavar="NAME", help="Of an export with several adapters: which one.")
    ] = None,
    once: Annotated[str | None, typer.Option("--once", metavar="TEXT", help="Answer one message and leave.")] = None,
) -> None:
    """Talk to the tuned model.

    Without a terminal, each line of stdin is a message.
    """
    from luthier.cli.progress import Progress

    with Progress() as progress:
        talk = _open(run, base=base, adapter=adapter, emit=progress)
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


def _open(name: str, *, base: bool, adapter: str | None, emit: "Emit") -> "Chat":
    from luthier.core.runfolder import find_run
    from luthier.core.settings import runs_dir
    from luthier.export.manifest import is_export
    from luthier.jobs.chat import open_chat, open_chat_with_export

    if is_export(Path(name)):
        if base:
            raise RecipeError("an export has no untuned base beside it", hint="name its run: `luthier chat RUN --base`")
        return open_chat_with_export(Path(name), adapter=adapter, emit=emit)
    if adapter is not None:
        raise RecipeError("only an export has adapters to choose from", hint="name an export's folder")
    return open_chat(find_run(name, runs_dir()), base_only=base, emit=emit)


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
