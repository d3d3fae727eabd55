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
    json: Json = False,
) -> None:
    """Ask a model with a head what it says of texts (labels, a number, entities), or an encoder-decoder what it writes.

    With a file, one JSON line is printed for each row; `--json` prints one document.
    """
    from luthier.cli.progress import Progress
    from luthier.core.runfolder import find_run
    from luthier.core.settings import runs_dir
    from luthier.jobs.predict import open_predictor
    from luthier.jobs.texts import texts_of

    if (file is None) == (not text):
        raise RecipeError(
            "name texts, or a file with them", hint="`luthier predict RUN --text TEXT`, or `… RUN rows.jsonl`"
        )
    texts = list(text or ()) if file is None else texts_of(file)
    with Progress() as progress:
        predictor = open_predictor(find_run(run, runs_dir()), progress)
    said = predictor.predict(texts)
    if json:
        put_json([one.model_dump(mode="json", exclude_none=True) for one in said])
        return
    for one in said:
        put(in_words(one) if file is None else json_module.dumps(one.model_dump(exclude_none=True), ensure_ascii=False))


def in_words(said: "Prediction") -> str:
    """Return a prediction as lines for a person."""
    if said.answer is not None:
        return said.answer + _cut(said)
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
