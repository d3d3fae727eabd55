"""Matrix products on the faster of the two libraries that torch brings for CPUs.

torch sends fp32 products to MKL, which on some CPUs (AMD's with AVX-512) reaches half of what oneDNN does.
oneDNN's product is torch's own operator behind Inductor; where it is absent or slower, torch.mm serves.
"""

import functools
import time

import torch

_PROBE = (384, 576, 1536)
_GAIN = 1.1
"""oneDNN must be this much faster to be taken."""


def matmul(a_NK: torch.Tensor, b_KM: torch.Tensor) -> torch.Tensor:
    """Return a @ b; both may be transposed views."""
    if a_NK.device.type == "cpu" and a_NK.dtype == torch.float32 and _onednn_is_faster(torch.get_num_threads()):
        return _onednn(a_NK, b_KM)
    return torch.mm(a_NK, b_KM)


def _onednn(a_NK: torch.Tensor, b_KM: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(a_NK, b_KM.t(), None, "none", [], "")


@functools.cache
def _onednn_is_faster(threads: int) -> bool:
    """Time both on a layer's shape, and check that they agree."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    rows, inner, columns = _PROBE
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(rows, inner, generator=generator), torch.randn(columns, inner, generator=generator).t()
    with torch.no_grad():
        if not torch.allclose(_onednn(a, b), torch.mm(a, b), atol=1e-3):
            return False
        return _seconds(lambda: _onednn(a, b)) * _GAIN < _seconds(lambda: torch.mm(a, b))


def _seconds(call) -> float:
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - started)
    return best
