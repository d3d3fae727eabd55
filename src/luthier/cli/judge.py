"""`luthier judge`: which of two answers is better, by people who do not know whose they are, or by a model."""

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli.options import Json, RunName
from luthier.cli.tell import put, put_json, put_table, say
from luthier.core.errors import RecipeError

if TYPE_CHECKING:
    from luthier.jobs.judge.contest import Contest
    from luthier.jobs.judge.endpoint import Endpoint
    from luthier.jobs.judge.result import JudgeResult, JudgingResult
    from luthier.jobs.judge.session import Session, View

PERSON = "person"
UNFIT = re.compile(r"[^\w.@+-]+")
"""What cannot be in a judge's name."""
RULE = "─" * 72
CLEAR = "\x1b[2J\x1b[H"


def judge(  # noqa: PLR0913 (a command's options)
    run: RunName,
    other: Annotated[
        str | None, typer.Argument(metavar="RUN2", help="Another run; without it, the best baseline of RUN.")
    ] = None,
    rows: Annotated[int | None, typer.Option("--rows", min=1, metavar="N", help="Judge at most N rows.")] = None,
    name: Annotated[str | None, typer.Option("--judge", metavar="NAME", help="Who judges; `person` if unsaid.")] = None,
    with_model: Annotated[
        str | None,
        typer.Option(
            "--with-model", metavar="URL", help="Let a model judge: an OpenAI-compatible base URL, or `served`."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="The judging model's name there.")
    ] = None,
    key_env: Annotated[
        str, typer.Option("--key-env", metavar="VARIABLE", help="The environment variable that holds its key.")
    ] = "OPENAI_API_KEY",
    json: Json = False,
) -> None:
    """Judge blindly which of two answers is better.

    Keys: a or b for the better answer, t tie, s skip, u undo, q quit.

    Each is saved at once; the same command goes on where you left.
    """
    from luthier.core.runfolder import find_run
    from luthier.core.settings import runs_dir
    from luthier.jobs.judge.contest import open_contest
    from luthier.jobs.judge.result import result_of

    second = find_run(other, runs_dir()) if other else None
    contest = open_contest(find_run(run, runs_dir()), second)
    endpoint = _endpoint(with_model, model, key_env) if with_model or model else None
    try:
        if not contest.pairs:
            say(f"both said the same on all {contest.identical} rows: there is nothing to judge")
        elif endpoint:
            _ask_model(contest, endpoint, name, rows)
        else:
            _ask_person(contest, name or PERSON, rows)
    finally:
        result = result_of(contest)
    if json:
        put_json(result.model_dump(mode="json"))
    else:
        _put_result(result, contest)


def _endpoint(address: str | None, model: str | None, key_env: str) -> "Endpoint":
    from luthier.jobs.judge.endpoint import open_endpoint

    if not address or not model:
        hint = "such as `--with-model https://api.openai.com/v1 --model gpt-4.1`"
        raise RecipeError("a model that judges needs an address and a name", hint=hint)
    return open_endpoint(address, model, key_env)


def _ask_model(contest: "Contest", endpoint: "Endpoint", name: str | None, rows: int | None) -> None:
    from luthier.jobs.judge.ledger import Ledger
    from luthier.jobs.judge.model_judge import judge_by_model

    ledger = Ledger(contest, name or UNFIT.sub("-", endpoint.model).strip("-."), model=endpoint.model).open()
    judge_by_model(contest, ledger, endpoint, rows=rows, heard=lambda done, of: say(f"judged {done} of {of}"))


def _ask_person(contest: "Contest", name: str, rows: int | None) -> None:
    from luthier.jobs.judge.ledger import Ledger
    from luthier.jobs.judge.session import Session

    session = Session(contest, Ledger(contest, name).open(), rows)
    if session.view() is None:
        say(f"{name} has judged all {len(contest.pairs[:rows])} pairs")
        return
    with _keys() as keys:
        pressed = _through(session, keys)
    if not pressed and not sys.stdin.isatty():
        hint = (
            "judge at a terminal, pipe keys in (`printf 'abt' | luthier judge RUN`), or ask a model with `--with-model`"
        )
        raise RecipeError("there is no terminal and no key was given", hint=hint)


def _through(session: "Session", keys: Iterator[str]) -> int:
    """Show pair after pair and do what the keys say; return how many keys there were."""
    from luthier.jobs.judge.session import KEYS

    pressed, shown = 0, None
    while view := session.view():
        if view != shown:
            _show(view)
            shown = view
        key = next(keys, None)
        if key is None:
            break
        pressed += 1
        if key not in KEYS:
            say(f"`{key}` is no key here: {_legend()}")
        elif not session.press(key, view):
            say("there is nothing to undo")
    return pressed


def _show(view: "View") -> None:
    clear = CLEAR if sys.stderr.isatty() else ""
    head = f"{clear}{RULE}\npair {view.number} of {view.of}"
    answers = "\n".join(f"── {name} {RULE[5:]}\n{_safe(text)}" for name, text in (("A", view.a), ("B", view.b)))
    say(f"{head}\n{_safe(view.pair.prompt)}\n{answers}\n{RULE}\n{_legend()}")


def _legend() -> str:
    from luthier.jobs.judge.session import KEYS

    return ", ".join(f"{key} {meaning}" for key, meaning in KEYS.items())


def _safe(text: str) -> str:
    """Return a text without what could steer the terminal: a model wrote it."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "�" for letter in text.strip())


@contextlib.contextmanager
def _keys() -> Iterator[Iterator[str]]:
    """Yield the keys that are pressed, each at once; or the letters of a pipe."""
    if not sys.stdin.isatty():
        yield (letter for line in sys.stdin for letter in line.lower() if not letter.isspace())
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield (key.lower() for key in iter(lambda: sys.stdin.read(1), "") if not key.isspace())
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _put_result(result: "JudgingResult", contest: "Contest") -> None:
    for warning in result.warnings:
        say(f"warning: {warning}")
    if not result.judges:
        put("no pair is judged yet")
        return
    columns = ["judge", "won", "lost", "ties", "not judged", "win rate", "p"]
    put_table(f"{result.first} against {result.second}", columns, [_row(one) for one in result.judges])
    for one in result.judges:
        put(f"{one.judge}: {one.verdict}")
        if one.inconsistent_share is not None:
            put(f"{one.judge}: said otherwise in the other order on {one.inconsistent_share:.0%} of the pairs (ties)")
    for agreement in result.agreements:
        kappa = "not defined" if agreement.kappa is None else f"{agreement.kappa:.2f}"
        shared = f"the same on {agreement.agreed:.0%} of {agreement.rows} pairs"
        put(f"{' and '.join(agreement.judges)}: {shared}, Cohen's kappa {kappa}")
    if result.identical:
        put(f"{result.identical} more rows have the same answer twice")
    put(f"written to {contest.folder / 'result.json'}")


def _row(one: "JudgeResult") -> list[str]:
    rate = one.win_rate
    share = "–" if rate is None else f"{rate.value:.0%} [{rate.low:.0%}–{rate.high:.0%}]"
    return [
        one.judge,
        str(one.won),
        str(one.lost),
        str(one.tied),
        str(one.skipped + one.unjudged),
        share,
        f"{one.p:.3f}",
    ]
