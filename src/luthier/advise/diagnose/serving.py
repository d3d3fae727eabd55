"""What is asked of the model later: other prompts, another base, answers without an end."""

from luthier.advise.diagnose.evidence import Evidence
from luthier.advise.diagnose.finding import Finding, sure

STOPS = 0.9
FEWEST_ANSWERS = 5
ENDS = 0.9


def template_mismatch(evidence: Evidence) -> Finding | None:
    """Any row is rendered to other tokens than were trained, by the base as it is now, an export or the evaluation.

    Rendering is exact, so a single row is proof; the share of rows says how much it matters.
    """
    rendered = evidence.rendered
    if rendered is None:
        return None
    wrong = [place for place in rendered if place.different]
    if not wrong:
        return None
    told = [f"{place.place}: {place.different} of {place.rows} rows; {place.example}" for place in wrong]
    return Finding(
        name="template-mismatch",
        what="prompts are rendered differently from what was trained",
        evidence=tuple(told),
        confidence=0.99,
        remedy="use the chat template and the tokenizer that the run was trained with, or train again with the new",
    )


def stops_ready(evidence: Evidence) -> str | None:
    """Return why it cannot be said whether answers end."""
    answered = evidence.answered
    if answered is not None and answered.rows < FEWEST_ANSWERS:
        return f"only {answered.rows} answers were written, and a share needs {FEWEST_ANSWERS}"
    return None


def never_stops(evidence: Evidence) -> Finding | None:
    """More than a tenth of the tuned model's answers run into the token limit.

    The limit holds the longest training answer and a margin, so a model that learned where answers end stays below it.
    """
    answered, splits, data = evidence.answered, evidence.splits, evidence.data
    if answered is None:
        return None
    if answered.stops_share >= STOPS:
        return None
    told = [f"{answered.stops_share:.0%} of {answered.rows} answers end within {answered.limit} tokens"]
    unended = splits is not None and splits.ends_share < ENDS
    if splits is not None:
        told.append(f"{splits.ends_share:.0%} of the training rows end with a trained end of turn")
    patch: dict[str, object] = {"data.too_long": "drop"} if data is not None and data.cut else {}
    return Finding(
        name="never-stops",
        what="answers do not end by themselves",
        evidence=tuple(told),
        confidence=sure(1 - answered.stops_share / 2),
        remedy="let each training row end with its end of turn, uncut"
        if unended
        else "train for longer; the end of turn is in the rows but not learned yet",
        patch=patch,
    )


def wrong_base(evidence: Evidence) -> Finding | None:
    """The base model's weights are not those that were tuned, or the adapter names another base.

    An adapter adds to the weights it was trained beside; on others it adds noise. Hashes differ or they do not.
    """
    base = evidence.base
    if base is None:
        return None
    told = []
    if base.now != base.trained_on:
        told.append(f"weights of `{base.name}`: {base.trained_on[:16]} when trained, {base.now[:16]} now")
    if base.adapter_base not in (None, base.name):
        told.append(f"the adapter names the base `{base.adapter_base}`, the run `{base.name}`")
    if not told:
        return None
    return Finding(
        name="wrong-base",
        what="the base model is not the one that was tuned",
        evidence=tuple(told),
        confidence=0.99,
        remedy="put the base model back that the run was trained on, or train again on the new one",
    )
