"""What holds the machine up: waiting for rows, and memory."""

from luthier.advise.diagnose.evidence import Evidence
from luthier.advise.diagnose.finding import Finding, grown, sure

WAITING = 0.1
LEAST_WAIT_S = 2.0
FULL = 0.95


def data_ready(evidence: Evidence) -> str | None:
    """Return why it is not known how long training waited."""
    curve = evidence.curve
    return "the run did not record how long it waited for rows" if curve and curve.wait_share is None else None


def memory_ready(evidence: Evidence) -> str | None:
    """Return why it is not known how full the memory was."""
    curve = evidence.curve
    if curve and curve.memory_share is None and not curve.out_of_memory:
        return "the run did not record how full the memory was"
    return None


def data_bound(evidence: Evidence) -> Finding | None:
    """Training waits for its rows for more than a tenth of its time: so much faster it would be without.

    Waits of less than two seconds in all are nothing that anyone would mend.
    """
    curve = evidence.curve
    if curve is None or curve.wait_share is None:
        return None
    if curve.wait_share <= WAITING or curve.waited_s < LEAST_WAIT_S:
        return None
    return Finding(
        name="data-bound",
        what="training waits for its rows",
        evidence=(
            f"{curve.wait_share:.0%} of the time of {len(curve.loss)} steps, {curve.waited_s:.0f} s, went into waiting",
        ),
        confidence=grown(curve.wait_share, WAITING),
        remedy="put the run folder on a local disk, stop what else uses the processor, or take larger batches",
    )


def memory_bound(evidence: Evidence) -> Finding | None:
    """A step did not fit into memory, or more than 95 % of it are in use: the next longer row will not fit.

    Below that the system still has room to give; above it swaps, or ends the process.
    """
    curve, settings = evidence.curve, evidence.settings
    if curve is None or settings is None:
        return None
    share = curve.memory_share or 0.0
    if not curve.out_of_memory and share <= FULL:
        return None
    told = [curve.out_of_memory] if curve.out_of_memory else []
    told += [f"{share:.0%} of the memory in use"] if curve.memory_share is not None else []
    told += [f"up to {settings.micro_batch_tokens:,} tokens are computed at once"]
    patch: dict[str, object] = {"train.micro_batch_tokens": max(1, settings.micro_batch_tokens // 2)}
    return Finding(
        name="memory-bound",
        what="memory is full",
        evidence=tuple(told),
        confidence=0.99 if curve.out_of_memory else sure(share),
        remedy="compute fewer tokens at once, and recompute activations; the result stays the same",
        patch=patch | ({} if settings.gradient_checkpointing else {"train.gradient_checkpointing": True}),
    )
