"""Which tests run in the CI's sizes: all that differ in kind; `make proof` runs every combination."""

import os

IN_FULL = bool(os.environ.get("LUTHIER_PROOF"))
"""Whether the full sizes run."""
VARIANTS = ("lora-pissa", "lora-dora")
"""Options of an adapter that change how it begins or what it trains, beside one case of each adapter."""


def is_tried(case: str) -> bool:
    """Tell whether an adapter's case runs where each is expensive: with its options only in full, but for a few."""
    return IN_FULL or "-" not in case or case in VARIANTS
