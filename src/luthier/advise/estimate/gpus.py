"""Published figures of GPUs: memory, dense arithmetic without sparsity, bandwidth, power; each with its source."""

import difflib
from typing import NamedTuple

from luthier.core.errors import RecipeError


class Gpu(NamedTuple):
    """One GPU as its maker describes it."""

    name: str
    memory_gb: float
    half_tflops: float
    """bf16, or fp16 where there is no bf16; dense, summed in fp32."""
    fp32_tflops: float
    bandwidth_gb_s: float
    watts: int
    source: str
    has_bf16: bool = True

    @property
    def memory_bytes(self) -> int:
        """Memory in bytes."""
        return int(self.memory_gb * 1e9)


GPUS = (
    Gpu("T4", 16, 65, 8.1, 320, 70, "NVIDIA T4 datasheet (2019)", has_bf16=False),
    Gpu("A10G", 24, 70, 31.5, 600, 150, "NVIDIA A10G figures of AWS EC2 G5 (2021)"),
    Gpu("L4", 24, 121, 30.3, 300, 72, "NVIDIA L4 datasheet (2023), half of the sparse figure"),
    Gpu("L40S", 48, 362, 91.6, 864, 350, "NVIDIA L40S datasheet (2023), half of the sparse figure"),
    Gpu("A100-40", 40, 312, 19.5, 1555, 400, "NVIDIA A100 datasheet, SXM4 40 GB (2020)"),
    Gpu("A100-80", 80, 312, 19.5, 2039, 400, "NVIDIA A100 datasheet, SXM4 80 GB (2021)"),
    Gpu("H100", 80, 989, 67, 3350, 700, "NVIDIA H100 datasheet, SXM5 (2023), half of the sparse figure"),
    Gpu("RTX 3090", 24, 71, 35.6, 936, 350, "NVIDIA Ampere GA102 whitepaper (2020)"),
    Gpu("RTX 4090", 24, 165.2, 82.6, 1008, 450, "NVIDIA Ada GPU architecture whitepaper (2022)"),
)


def gpu_named(name: str) -> Gpu:
    """Return the GPU that a person means, whatever the case and the spaces."""
    known = {_plain(gpu.name): gpu for gpu in GPUS}
    if _plain(name) in known:
        return known[_plain(name)]
    close = difflib.get_close_matches(_plain(name), list(known), n=1)
    names = ", ".join(gpu.name for gpu in GPUS)
    hint = f"did you mean `{known[close[0]].name}`?" if close else f"known are {names}"
    raise RecipeError("there are no figures for this GPU", where={"--gpu": name}, hint=hint)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum()).removeprefix("nvidia")
