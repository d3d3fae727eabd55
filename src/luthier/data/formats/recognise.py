"""The closed union of formats, and which of them rows have."""

import difflib
from typing import get_args

from luthier.core.errors import DataError
from luthier.data.formats.alpaca import Alpaca
from luthier.data.formats.chat import Chat
from luthier.data.formats.input_output import InputOutput
from luthier.data.formats.labelled import Labelled
from luthier.data.formats.multi_labelled import MultiLabelled
from luthier.data.formats.preference import Preference
from luthier.data.formats.prompt_completion import PromptCompletion
from luthier.data.formats.scored import Scored
from luthier.data.formats.scored_pairs import ScoredPairs
from luthier.data.formats.shape import Sample
from luthier.data.formats.sharegpt import ShareGpt
from luthier.data.formats.squad import Squad
from luthier.data.formats.tagged import Tagged
from luthier.data.formats.templated import Templated
from luthier.data.formats.text import Text
from luthier.data.formats.text_pairs import TextPairs, Triplets
from luthier.data.spec import DataSpec

Headed = Squad | Tagged | MultiLabelled | Triplets | TextPairs | ScoredPairs | Labelled | Scored
"""What a head, or a text's vector, can learn from."""
Format = (
    Templated
    | Chat
    | Preference
    | ShareGpt
    | Squad
    | PromptCompletion
    | Alpaca
    | InputOutput
    | Tagged
    | MultiLabelled
    | Triplets
    | TextPairs
    | ScoredPairs
    | Labelled
    | Scored
    | Text
)
FORMATS: tuple[type[Format], ...] = get_args(Format)
"""In the order in which they are tried."""
HEADED: tuple[type[Format], ...] = get_args(Headed)
NAMES = tuple(kind.name for kind in FORMATS)


def recognise(sample: Sample, spec: DataSpec) -> Format:
    """Return the format the recipe names, or the first that fits; an unknown shape is an error."""
    kinds = _tried(spec) if spec.format == "auto" else (_named(spec.format),)
    found = next((made for kind in kinds if (made := kind.recognise(sample, spec))), None)
    if found is None:
        raise _unknown_shape(sample, kinds, spec)
    _check_used(found, spec)
    return found


def used_columns(sample: Sample, used: Format) -> list[str]:
    """Return the columns the format reads, of those that are there."""
    return [column for column in used.columns if column in sample.columns]


def unused_columns(sample: Sample, used: Format) -> list[str]:
    """Return the columns the format does not read."""
    return [column for column in sample.columns if column not in used.columns]


def _tried(spec: DataSpec) -> tuple[type[Format], ...]:
    return HEADED if spec.render == "text" else FORMATS


def _named(name: str) -> type[Format]:
    for kind in FORMATS:
        if kind.name == name.replace("-", "_"):
            return kind
    close = difflib.get_close_matches(name, NAMES, n=1)
    hint = f"did you mean `{close[0]}`?" if close else "leave `data.format` on `auto`"
    raise DataError(
        f"no format is called `{name}`", where={"field": "data.format"}, why=f"there are {', '.join(NAMES)}", hint=hint
    )


def _unknown_shape(sample: Sample, kinds: tuple[type[Format], ...], spec: DataSpec) -> DataError:
    found = ", ".join(f"`{column}`" for column in sample.columns) or "none"
    needs = "".join(f"\n          {kind.name:<18}{kind.needs}" for kind in kinds)
    what = "the rows have no known shape" if len(kinds) > 1 else f"the rows do not have the shape `{kinds[0].name}`"
    files = spec.path if isinstance(spec.path, str) else ", ".join(spec.path)
    return DataError(
        what, where={"file": files, "columns": found}, why=f"what each format needs:{needs}", hint=_suggest(sample)
    )


def _suggest(sample: Sample) -> str:
    known = [column for kind in (Chat, ShareGpt, PromptCompletion, Alpaca) for column in kind.columns] + [
        "label",
        "text",
    ]
    if sample.has("text", kind=str) and any(sample.has(name, kind=float) for name in ("score", "value", "label")):
        return "for numbers, set `data.format: scored` and `train.method: regress`"
    for column in sample.columns:
        close = difflib.get_close_matches(column.lower(), known, n=1, cutoff=0.8)
        if close and close[0] not in sample.columns:
            return f"did you mean `{close[0]}` where the rows have `{column}`?"
    return "for columns of other names, set `data.text_template`, such as `Q: {question}\\nA: {answer}`"


def _check_used(found: Format, spec: DataSpec) -> None:
    if spec.render == "text" and not isinstance(found, HEADED):
        names = ", ".join(f"`{kind.name}`" for kind in HEADED)
        why = f"a head learns from {names}; these are read as `{found.name}`"
        hint = "name the format with `data.format`, or train with `train.method: sft`"
        raise DataError(
            "these rows say nothing that a head could learn", where={"field": "data.format"}, why=why, hint=hint
        )
    for field, kind in (("text_template", Templated), ("instruction", Labelled)):
        if getattr(spec, field) is not None and not isinstance(found, kind):
            why = f"it is for the format `{kind.name}`, and the rows are read as `{found.name}`"
            raise DataError(
                f"`data.{field}` would not be used", where={"field": f"data.{field}"}, why=why, hint="leave it out"
            )
