"""`luthier predict`: ask a model with a head, or an encoder-decoder."""

import json as json_module
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli.options import Json, RunName
from luthier.cli.tell import put, put_json
from luthier.core.errors import RecipeError

if TYPE_CHECKING:
    from luthier.jobs.predict import Prediction

SHOWN_LABELS = 3


def predict(
    run: RunName,
    file: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="Rows with a text column, or lines of bare text (.jsonl, .csv, …)."),
    ] = None,
    text: Annotated[list[str] | None, typer.Option("--text", metavar="TEXT", help="A text; may be repeated.")] = None,
    question: Annotated[
        str | None, typer.Option("--question", metavar="TEXT", help="What is asked about each text; for `qa` only.")
    ] = None,
    json: Json = False,
) -> None:
    """Ask a model with a head what it says of texts, or an encoder-decoder what it writes for them.

    A head says labels with probabilities, a number, entities, an answer to a question, or a vector.

    With a file, one JSON line is printed for each row; `--json` prints one document.
    """
    from luthier.cli.progress import Progress
    from luthier.core.runfolder import find_run
    from luthier.core.settings import runs_dir
    from luthier.jobs.predict import open_predictor, takes_questions
    from luthier.jobs.texts import Asked, asked_of, texts_of

    if (file is None) == (not text):
        raise RecipeError(
            "name texts, or a file with them", hint="`luthier predict RUN --text TEXT`, or `… RUN rows.jsonl`"
        )
    folder = find_run(run, runs_dir())
    asks = takes_questions(folder)
    if (question is not None) != (asks and file is None):
        why = "its head answers questions about texts" if asks else "its head judges texts alone"
        what = "a question is missing" if question is None else "`--question` is of no use here"
        hint = "write `--question Q --text TEXT`, or name a file with the columns `question` and `context`"
        raise RecipeError(what, why=why, hint=hint if asks else "leave it out")
    texts = list(text or ()) if file is None else [] if asks else texts_of(file)
    asked = [Asked(question or "", one) for one in texts] if file is None or not asks else asked_of(file)
    with Progress() as progress:
        predictor = open_predictor(folder, progress)
    said = predictor.answer(asked) if asks else predictor.predict(texts)
    if json:
        put_json([told(one) for one in said])
        return
    for one in said:
        plain = file is None and one.vector is None
        put(in_words(one) if plain else json_module.dumps(told(one), ensure_ascii=False))


def told(said: "Prediction") -> dict[str, object]:
    """Return a prediction for programs; of a vector nothing but it and its text."""
    return said.model_dump(exclude_none=True, exclude={"probabilities"} if said.vector is not None else None)


def in_words(said: "Prediction") -> str:
    """Return a prediction as lines for a person."""
    if said.answer is not None:
        if said.probability is None:
            return said.answer + _cut(said)
        place = f" {said.start}–{said.end}" if said.start is not None else ""
        return f"{said.answer or 'no answer'}{place}  ({said.probability:.3f})"
    if said.score is not None:
        return f"{said.score:g}" + _cut(said)
    if said.entities is not None:
        lines = [f"{one.label:<12} {one.start}–{one.end}  {one.text}  ({one.probability:.3f})" for one in said.entities]
        return "\n".join(lines or ["no entity"]) + _cut(said)
    sure = said.probabilities
    shown = list(sure)[:SHOWN_LABELS] if said.label is not None else list(said.labels or ())
    return (", ".join(f"{label} {sure[label]:.3f}" for label in shown) or "no label") + _cut(said)


def _cut(said: "Prediction") -> str:
    return "\n(only the beginning was read: the text is longer than the training rows)" if said.cut else ""
