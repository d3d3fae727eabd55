"""Rows that are cut, that repeat what is held out, or in which hardly anything is trained."""

from luthier.advise.diagnose.evidence import Data, Evidence
from luthier.advise.diagnose.finding import Finding, first_rows, sure
from luthier.core.artifacts import HEAD_KINDS

CUT_SHARE = 0.01
LEAK_SHARE = 0.01
FEW_TARGETS = 0.005
NO_TARGET_SHARE = 0.1


def truncated_rows(evidence: Evidence) -> Finding | None:
    """From a hundredth of the rows on, rows are cut at their end or left out for their length.

    A cut answer teaches not to stop; rows left out for their length are not left out at random: they are the long
    ones, on which the model will be used and was never trained. Below a hundredth neither is seen in a result.
    """
    data = evidence.data
    if data is None:
        return None
    lost = len(data.cut) + len(data.too_long)
    share = lost / max(data.rows, 1)
    if share < CUT_SHARE:
        return None
    told = [f"{lost:,} of {data.rows:,} rows ({share:.1%}) are longer than {data.limit:,} tokens"]
    told += [f"{len(data.cut):,} cut: {first_rows(data.cut)}"] if data.cut else []
    told += [f"{len(data.too_long):,} left out: {first_rows(data.too_long)}"] if data.too_long else []
    told += [f"the longest has up to {data.longest:,} tokens, the model takes {data.context:,}"]
    return Finding(
        name="truncated-rows",
        what="rows do not fit into the longest length: they are cut, or not trained at all",
        evidence=tuple(told),
        confidence=sure(0.7 + 10 * (share - CUT_SHARE)),
        remedy="allow longer rows as far as the model's context goes, and shorten or split the rest",
        patch=_more_room(data),
    )


def _more_room(data: Data) -> dict[str, object]:
    room = min(data.longest, data.context)
    longer: dict[str, object] = {"data.max_tokens": room} if room > data.limit else {}
    return longer | ({"data.too_long": "drop"} if data.cut and data.longest > data.context else {})


def leakage(evidence: Evidence) -> Finding | None:
    """From a hundredth of the held-out rows on, the same was trained: the measured result is too good by up to that.

    Rows are the same where prompt and answer are equal but for case, spaces and punctuation.
    """
    splits = evidence.splits
    if splits is None:
        return None
    share = len(splits.overlaps) / max(splits.held_out, 1)
    if share < LEAK_SHARE:
        return None
    pairs = [f"{overlap.held_out} is {overlap.trained}" for overlap in splits.overlaps[:8]]
    return Finding(
        name="leakage",
        what="held-out rows were trained: the measurement flatters the model",
        evidence=(f"{len(splits.overlaps):,} of {splits.held_out:,} held-out rows ({share:.1%})", *pairs),
        confidence=0.99,
        remedy="hold out other rows, and let repeats be dropped",
        patch={"data.repeats": "drop"},
    )


def too_few_target_tokens(evidence: Evidence) -> Finding | None:
    """Less than 0.5 % of the training tokens carry loss, or a tenth of the rows have nothing to train.

    The shortest usual answer is a label and the end of turn, two tokens; a row in which they are less than a
    two-hundredth has 400 tokens of prompt for each, and training pays for the prompt nearly alone. A turn with
    weight 0 is meant now and then; in a tenth of all rows it is rather a mistake in the data.
    """
    data = evidence.data
    # A head learns one thing of a text, however long the text is.
    if data is None or data.kind in HEAD_KINDS:
        return None
    share = data.target_tokens / max(data.total_tokens, 1)
    empty = len(data.no_target) / max(data.rows, 1)
    if share >= FEW_TARGETS and empty < NO_TARGET_SHARE:
        return None
    told = [f"{data.target_tokens:,} of {data.total_tokens:,} training tokens ({share:.2%}) carry loss"]
    told += [f"{len(data.no_target):,} rows have nothing to train: {first_rows(data.no_target)}"] if empty else []
    told += [f"of {data.only_last:,} conversations only the last answer is trained"] if data.only_last else []
    return Finding(
        name="too-few-target-tokens",
        what="hardly anything in the rows is trained",
        evidence=tuple(told),
        confidence=sure(max(1 - share / FEW_TARGETS / 2, empty)),
        remedy="give the turns to learn a weight of 1, shorten what all prompts share, or put more answers into a row",
    )
