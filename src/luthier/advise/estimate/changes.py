"""What to change where a plan does not fit: recipe lines, the mildest first."""

from collections.abc import Iterator

from luthier.advise.estimate.result import Change
from luthier.advise.estimate.work import Size, Work

WEIGHT_BYTES, BEST_BYTES = 4, 4
"""Per trained weight: itself, and the best one so far."""
STEP = 64
SMALLER_BASE = "smollm2-135m-instruct"
SMALLER_PARAMETERS = 135_000_000


def changes(work: Work, size: Size, *, missing_bytes: int, activation_bytes_per_token: float) -> tuple[Change, ...]:
    """Return the changes that save memory, until they save what is missing."""
    chosen, left = [], float(missing_bytes)
    for change, saved in _possible(work, size, missing_bytes, activation_bytes_per_token):
        if left <= 0:
            break
        chosen.append(change)
        left -= saved
    return tuple(chosen)


def _possible(work: Work, size: Size, missing: int, per_token: float) -> Iterator[tuple[Change, float]]:
    heaviest, longest = work.heaviest.tokens, work.longest_tokens
    wanted = max(STEP, int(heaviest - missing / max(per_token, 1.0)) // STEP * STEP)
    tokens = max(wanted, min(longest, heaviest))
    if tokens < min(work.micro_batch_tokens, heaviest):
        saved: float = (heaviest - tokens) * per_token
        because = f"computes at most {tokens:,} tokens at once and saves about {_gb(saved)}; the result stays the same"
        yield Change(path="train.micro_batch_tokens", value=tokens, because=because), saved
    if not work.recomputes:
        saved = tokens * per_token * (1 - 2 / max(2, size.layers))
        because = f"recomputes activations and saves about {_gb(saved)}; a step takes about a third longer"
        yield Change(path="train.gradient_checkpointing", value=True, because=because), saved
    yield from _fewer_trained(work, size)
    if longest > 2 * STEP:
        shorter = longest // 2
        saved = (longest - shorter) * per_token / (size.layers if work.recomputes else 1)
        because = f"cuts or leaves out rows above {shorter:,} tokens (the longest has {longest:,})"
        yield Change(path="data.max_tokens", value=shorter, because=because), saved
    if size.parameters > SMALLER_PARAMETERS * 1.2:
        saved = (size.parameters - SMALLER_PARAMETERS) * 4.0
        because = f"a smaller base saves about {_gb(saved)}; any smaller model will do"
        yield Change(path="base_model", value=SMALLER_BASE, because=because), saved


def _fewer_trained(work: Work, size: Size) -> Iterator[tuple[Change, float]]:
    copies = work.state_bytes + BEST_BYTES
    if work.full:
        saved = (size.trainable or size.parameters) * copies
        because = f"trains small updates instead of the model's own weights and saves about {_gb(saved)}"
        yield Change(path="train.adapter", value="{name: lora}", because=because), saved
    elif work.ranked and size.trainable * (WEIGHT_BYTES + copies) > size.parameters // 4:
        saved = size.trainable * work.state_bytes * 0.75
        because = f"a smaller update saves about {_gb(saved)}"
        yield Change(path="train.adapter.r", value=4, because=because), saved


def _gb(count: float) -> str:
    return f"{count / 1e9:.2f} GB"
