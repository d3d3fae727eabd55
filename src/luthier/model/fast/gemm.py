"""Matrix products on the faster of the two libraries that torch brings for CPUs.

torch sends fp32 products to MKL, which on some CPUs (AMD's with AVX-512) reaches half of what oneDNN does.
oneDNN's product is torch's own operator behind Inductor; where it is absent or slower, torch.mm serves.
The two round differently, so the choice is made once per machine and remembered: a run that goes on in another process,
timed at a busier moment, must not go on with other bits.
"""

import contextlib
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from filelock import FileLock

from luthier.core.errors import ResourceError
from luthier.core.files import disk_errors, write_atomic
from luthier.core.settings import cache_dir
from luthier.model.device import cpu_name

_PROBE = (384, 576, 1536)
_GAIN = 1.1
"""oneDNN must be this much faster to be taken."""
_ROUNDS = 15
_REMEMBERED = "products.json"
"""In the cache folder: whether oneDNN is taken, by processor, version of torch and threads."""


def matmul(a_NK: torch.Tensor, b_KM: torch.Tensor) -> torch.Tensor:
    """Return a @ b; both may be transposed views."""
    if a_NK.device.type == "cpu" and a_NK.dtype == torch.float32 and _onednn_is_faster(torch.get_num_threads()):
        return _onednn(a_NK, b_KM)
    return torch.mm(a_NK, b_KM)


def _onednn(a_NK: torch.Tensor, b_KM: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(a_NK, b_KM.t(), None, "none", [], "")


@functools.cache
def _onednn_is_faster(threads: int) -> bool:
    """Return what was found on this machine before, or find it now; without a cache folder it is found each time."""
    key = f"{cpu_name()}, torch {torch.__version__}, threads {threads}"
    file = cache_dir() / _REMEMBERED
    with contextlib.suppress(ResourceError), disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):
            known = _known(file)
            if key not in known:
                write_atomic(file, json.dumps(known | {key: _is_faster_now()}))
            return _known(file)[key]
    return _is_faster_now()


def _known(file: Path) -> dict[str, bool]:
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _is_faster_now() -> bool:
    """Time both on a layer's shape, and check that they agree."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    rows, inner, columns = _PROBE
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(rows, inner, generator=generator), torch.randn(columns, inner, generator=generator).t()
    with torch.no_grad():
        if not torch.allclose(_onednn(a, b), torch.mm(a, b), atol=1e-3):
            return False
        # In turns, so that a busy moment slows both.
        times = [(_seconds(_onednn, a, b), _seconds(torch.mm, a, b)) for _ in range(_ROUNDS)]
    return min(ours for ours, _ in times) * _GAIN < min(usual for _, usual in times)


def _seconds(product: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], a: torch.Tensor, b: torch.Tensor) -> float:
    started = time.perf_counter()
    product(a, b)
    return time.perf_counter() - started
