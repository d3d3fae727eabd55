"""Entities: F1 over the named pieces of a text, from tag sequences (`O B-PER I-PER`) or JSON (`{"PER": ["Ada"]}`)."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np

from luthier.core.errors import DataError
from luthier.score.scores import FloatArray, Scores
from luthier.score.structured import find_object, parse_object

TAG = re.compile(r"O|[BIESLU]-\S+")
OUTSIDE = "O"
Entities = Counter[tuple[object, ...]]
"""Each entity with how often it occurs: type and place of tags, type and words of JSON."""


def entity_f1(answers: Sequence[str], references: Sequence[str]) -> Scores:
    """Return micro-averaged entity-F1, 0 to 1: an entity is right when its type and its whole span are.

    On tags the same as seqeval's `f1_score` (Nakayama 2018, after conlleval); but where there is no entity to find and
    none was named, F1 is 1. References that are neither tags nor JSON are an error; such answers name no entity.
    """
    rows = [_row(answer, reference) for answer, reference in zip(answers, references, strict=True)]
    statistics = np.array(rows, dtype=np.float64).reshape(len(rows), 2)
    return Scores("entity_f1", _f1(statistics), statistics, _f1)


def entity_precision(answers: Sequence[str], references: Sequence[str]) -> Scores:
    """Return the share, 0 to 1, of the entities named that are right; 1 where none was named."""
    return _share("entity_precision", answers, references, of=0)


def entity_recall(answers: Sequence[str], references: Sequence[str]) -> Scores:
    """Return the share, 0 to 1, of the entities there that are named; 1 where there is none."""
    return _share("entity_recall", answers, references, of=1)


def _share(metric: str, answers: Sequence[str], references: Sequence[str], *, of: int) -> Scores:
    pairs = [(_tagged(answer.split()), _tagged(_tags_of(one))) for answer, one in zip(answers, references, strict=True)]
    rows = [((both[0] & both[1]).total(), both[of].total()) for both in pairs]
    statistics = np.array(rows, dtype=np.float64).reshape(len(rows), 2)
    return Scores(metric, _f1(statistics), statistics, _f1)


def _row(answer: str, reference: str) -> tuple[int, int]:
    """Return twice the entities that are right, and the entities of answer and reference together."""
    as_json = parse_object(reference)
    if as_json is not None:
        expected, given = _spans(as_json), _spans(find_object(answer) or {})
    else:
        expected, given = _tagged(_tags_of(reference)), _tagged(answer.split())
    return 2 * (given & expected).total(), given.total() + expected.total()


def _tags_of(reference: str) -> list[str]:
    tags = reference.split()
    if tags and all(TAG.fullmatch(tag) for tag in tags):
        return tags
    why = 'it is neither tags such as `O B-PER I-PER` nor JSON such as `{"PER": ["Ada"]}`'
    hint = "leave `entity_f1` out of evaluate.metrics"
    raise DataError(
        "entity-F1 needs references that name entities", where={"reference": reference[:80]}, why=why, hint=hint
    )


def _tagged(words: Sequence[str]) -> Entities:
    # Imported here because it pulls in scikit-learn.
    from seqeval.metrics.sequence_labeling import get_entities

    # A word that is no tag keeps its place, so that what follows it can still be right.
    return Counter(get_entities([word if TAG.fullmatch(word) else OUTSIDE for word in words]))


def _spans(value: dict[str, object]) -> Entities:
    listed = [(kind, spans if isinstance(spans, list) else [spans]) for kind, spans in value.items()]
    return Counter((kind, _plain(span)) for kind, spans in listed for span in spans if isinstance(span, str))


def _plain(span: str) -> str:
    return " ".join(unicodedata.normalize("NFC", span).split())


def _f1(sums: FloatArray) -> FloatArray:
    right, named = sums[..., 0], sums[..., 1]
    return np.divide(right, named, out=np.ones_like(right), where=named > 0)
