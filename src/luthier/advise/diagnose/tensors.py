"""Weights that should have been trained and were not."""

from luthier.advise.diagnose.evidence import Evidence
from luthier.advise.diagnose.finding import Finding, first_rows


def dead_tensors(evidence: Evidence) -> Finding | None:
    """A trained tensor never got a gradient, is zero after training, or is not finite.

    An optimiser's moments sum up gradients or their squares: all zero only where there never was one. LoRA's B begins
    at zero and leaves it with the first update. Both are exact, so one tensor is proof.
    """
    weights = evidence.weights
    if weights is None:
        return None
    if not weights.still and not weights.not_finite:
        return None
    told = []
    if weights.still:
        told.append(f"{len(weights.still)} of {weights.tensors} tensors did not move: {first_rows(weights.still, 4)}")
    if weights.not_finite:
        told.append(
            f"{len(weights.not_finite)} of {weights.tensors} are not finite: {first_rows(weights.not_finite, 4)}"
        )
    return Finding(
        name="dead-tensors",
        what="weights that should train did not, or are no numbers",
        evidence=(*told, f"looked at {weights.place}"),
        confidence=0.99,
        remedy="train every linear layer, or leave out the layers that the forward pass does not use",
        patch={"train.adapter.target_modules": "auto"} if any("lora_" in name for name in weights.still) else {},
    )
