"""Labels that are wrong, and labels that contradict each other."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from luthier.advise.diagnose.evidence import Evidence, Judged
from luthier.advise.diagnose.finding import Finding, first_rows, sure

FEWEST_JUDGED = 20
FEWEST_WRONG = 3
WRONG_SHARE = 0.03
"""About what ten well-known test sets have (Northcutt, Athalye and Mueller 2021, arXiv:2103.14749: 3.3 %)."""
KNOWS = 0.5
CLOSED_SHARE = 0.01
FREE_SHARE = 0.1


def labels_ready(evidence: Evidence) -> str | None:
    """Return why the model cannot judge the labels."""
    judged = evidence.judged
    if judged is None:
        return None
    if len(judged) < FEWEST_JUDGED:
        return f"only {len(judged)} held-out rows, and thresholds per label need {FEWEST_JUDGED}"
    trust = fmean(row.probabilities[row.label] for row in judged)
    chance = 1 / len(judged[0].probabilities)
    if trust < chance + KNOWS * (1 - chance):
        return f"the model is not sure enough to judge: it gives the given labels {trust:.0%} on average"
    return None


def thresholds(judged: Sequence[Judged]) -> Mapping[str, float]:
    """Return the mean probability of each label on the rows that are given it: how sure the model usually is."""
    given: dict[str, list[float]] = {}
    for row in judged:
        given.setdefault(row.label, []).append(row.probabilities[row.label])
    return {label: fmean(values) for label, values in given.items()}


def bad_labels(evidence: Evidence) -> Finding | None:
    """Confident learning (Northcutt, Jiang and Chuang 2021, arXiv:1911.00068) on held-out rows.

    A row's label is suspected where another label is at least as probable as that label usually is on rows that are
    given it, and the given label is not. So a class on which the model is unsure does not fill the list. Three rows
    and three per cent are asked for: as much is usual in good data, and a good model is itself wrong now and then. The
    confidence is the mean probability of the labels that the model would give.
    """
    judged = evidence.judged
    if judged is None:
        return None
    usual = thresholds(judged)
    wrong = [(row, better) for row in judged if (better := _better(row, usual)) is not None]
    if len(wrong) < max(FEWEST_WRONG, WRONG_SHARE * len(judged)):
        return None
    wrong.sort(key=lambda pair: pair[0].probabilities[pair[0].label])
    told = [
        f"{row.row}: given {row.label!r} ({row.probabilities[row.label]:.1%}), "
        f"the model says {better!r} ({row.probabilities[better]:.1%})"
        for row, better in wrong[:8]
    ]
    more = [f"and {len(wrong) - 8} more: {first_rows([row.row for row, _ in wrong[8:]], 50)}"] if wrong[8:] else []
    share = len(wrong) / len(judged)
    agreed = sum(max(row.probabilities, key=row.probabilities.__getitem__) == row.label for row in judged)
    trust = f"the model agrees with {agreed / len(judged):.0%} of all labels; its own mistakes are among the rows named"
    return Finding(
        name="bad-labels",
        what="labels of held-out rows seem to be wrong, and those of training rows may be as often",
        evidence=(f"{len(wrong)} of {len(judged)} held-out rows ({share:.1%})", *told, *more, trust),
        confidence=sure(fmean(row.probabilities[better] for row, better in wrong)),
        remedy="look at the rows named and correct them; then look through the training rows for the same mistake",
    )


def _better(row: Judged, usual: Mapping[str, float]) -> str | None:
    """Return the label that the model would confidently give instead, if any."""
    if row.probabilities[row.label] >= usual[row.label]:
        return None
    likely = [label for label, threshold in usual.items() if row.probabilities[label] >= threshold]
    best = max(likely, key=lambda label: row.probabilities[label], default=None)
    return best if best is not None and row.probabilities[best] > row.probabilities[row.label] else None


def conflicting_labels(evidence: Evidence) -> Finding | None:
    """Several rows ask the same and answer differently, so no model can learn them all.

    Two equally frequent answers to one prompt cost ln 2 nats that no training removes, and as much accuracy as half of
    such rows. For answers that can be right or wrong (labels, JSON) a hundredth of the rows counts; free answers may
    well differ, and there a tenth counts. Pairs and plain text have no one answer.
    """
    data = evidence.data
    if data is None:
        return None
    if data.kind in ("pair", "text") or not data.conflicts:
        return None
    rows = sum(map(len, data.conflicts))
    share, least = rows / max(data.rows, 1), FREE_SHARE if data.kind == "free" else CLOSED_SHARE
    if share < least:
        return None
    return Finding(
        name="conflicting-labels",
        what="rows with the same prompt have different answers",
        evidence=(
            f"{data.conflict_groups:,} prompts, {rows:,} of {data.rows:,} rows ({share:.1%})",
            *(" against ".join(group[:4]) for group in data.conflicts[:5]),
        ),
        confidence=sure(0.6 if data.kind == "free" else 0.95),
        remedy="decide for each prompt which answer is right, and remove the others",
    )
