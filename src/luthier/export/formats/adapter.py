"""`adapter`: the small trained weights alone, in PEFT's own format."""

import shutil
from pathlib import Path

FILES = ("adapter_config.json", "adapter_model.safetensors")


def build(weights: Path, out: Path) -> None:
    """Copy what training wrote; PEFT loads it onto the base model."""
    for name in FILES:
        shutil.copyfile(weights / name, out / name)
