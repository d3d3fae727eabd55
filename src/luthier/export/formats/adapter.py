"""`adapter`: the small trained weights alone, in PEFT's own format where PEFT has such adapters."""

import shutil
from pathlib import Path

from luthier.model.adapters.qlora import ROUNDED_BASE

FILES = ("adapter_config.json", "adapter_model.safetensors")


def build(weights: Path, out: Path) -> None:
    """Copy what training wrote; where it was trained on a rounded base, also how that was rounded."""
    for name in FILES:
        shutil.copyfile(weights / name, out / name)
    if (weights / ROUNDED_BASE).exists():
        shutil.copyfile(weights / ROUNDED_BASE, out / ROUNDED_BASE)
