"""What a recipe says about export."""

from typing import Literal

ExportName = Literal["merged", "adapter"]
"""`merged`: one model in safetensors. `adapter`: PEFT's own format."""
