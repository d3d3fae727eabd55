"""Few bits for a tensor: which kind, by llama.cpp's own rules, and the numbers themselves.

The `gguf` library rounds to the nearest. The k-quants, which search for each block's scale, are computed by llama.cpp's
own `ggml_quantize_chunk`, through the C interface of the library inside `xllamacpp`; where that is not installed but
the tool `llama-quantize` is on the PATH, that does the whole file.
"""

import ctypes
import functools
import importlib.util
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Bits

from luthier.core.errors import ModelError

LIBRARY, TOOL = "xllamacpp", "llama-quantize"
KIND = "Q4_K_M"
K_QUANTS = (Bits.Q4_K, Bits.Q5_K, Bits.Q6_K)
NARROW = {Bits.Q4_K: Bits.Q5_0, Bits.Q5_K: Bits.Q5_1, Bits.Q6_K: Bits.Q8_0}
"""What llama.cpp takes where a tensor's rows are no multiple of a k-quant's 256."""
LAYER = re.compile(r"blk\.(\d+)\.")
LEAST_SECONDS, SECONDS_PER_MB = 300, 2
HINT = f"pip install 'luthier[llama-cpp]', or put `{TOOL}` on the PATH; `gguf-q4_0` needs neither"
FAILED = "llama.cpp could not quantise the model"
Array = np.ndarray[Any, Any]


def bits_of(name: str, width: int, asked: Bits, *, is_output: bool, layers: int) -> Bits:
    """Return the kind of a matrix with rows of `width` weights; `asked` is the form's own, Q4_K standing for q4_k_m.

    Q4_K_M gives more bits to values, to what leads out of the feed-forward part in some layers, and to the output.
    """
    if asked == Bits.Q4_K:
        asked = _mixed(name, layers, is_output=is_output)
        asked = NARROW[asked] if width % gguf.GGML_QUANT_SIZES[asked][0] else asked
    elif is_output and asked == Bits.Q4_0:
        asked = Bits.Q8_0
    return Bits.F32 if width % gguf.GGML_QUANT_SIZES[asked][0] else asked


def _mixed(name: str, layers: int, *, is_output: bool) -> Bits:
    found = LAYER.match(name)
    layer = int(found.group(1)) if found else 0
    eighth = layers // 8
    is_sensitive = layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
    if is_output or (is_sensitive and name.endswith(("attn_v.weight", "ffn_down.weight"))):
        return Bits.Q6_K
    return Bits.Q5_K if name.endswith("attn_qkv.weight") else Bits.Q4_K


def quantised(data: Array, bits: Bits) -> Array:
    """Return a tensor's bytes (or its numbers in fp32); rows are the last axis."""
    return _by_library(data, bits) if bits in K_QUANTS else gguf.quantize(data, bits)


def has_k_quants() -> bool:
    """Return whether k-quants can be computed here, tensor by tensor."""
    return importlib.util.find_spec(LIBRARY) is not None


def by_tool(write: Callable[[Path], None], out: Path) -> None:
    """Let `write` write an fp32 file beside `out`, and the tool quantise it; raise ModelError where it is missing."""
    tool = shutil.which(TOOL)
    if tool is None:
        raise ModelError("k-quants need llama.cpp's own quantiser, which is not installed", hint=HINT)
    whole = out.with_name(f".{out.name}.whole")
    try:
        write(whole)
        _run([tool, str(whole), str(out), KIND], LEAST_SECONDS + SECONDS_PER_MB * whole.stat().st_size / 1e6)
    finally:
        whole.unlink(missing_ok=True)
    if not out.is_file():
        raise ModelError(FAILED, where={"tool": tool}, why="it wrote nothing")


def _run(command: list[str], seconds: float) -> None:
    try:
        # The tool is the one that the PATH names; the paths are single arguments.
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelError(FAILED, where={"tool": command[0]}, why=type(error).__name__) from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it did not say why"]
        raise ModelError(FAILED, where={"tool": command[0]}, why=lines[-1][:300])


def _by_library(data: Array, bits: Bits) -> Array:
    rows = np.ascontiguousarray(data, dtype=np.float32)
    made = np.empty(gguf.quant_shape_to_byte_shape(rows.shape, bits), dtype=np.uint8)
    _fill(_function(), rows, made, bits)
    return made


def _fill(function: Any, rows: Array, made: Array, bits: Bits) -> None:
    written = function(bits, rows.ctypes.data, made.ctypes.data, 0, rows.size // rows.shape[-1], rows.shape[-1], None)
    if written != made.nbytes:
        raise ModelError(FAILED, why=f"{written} bytes were written where {made.nbytes} belong")


@functools.cache
def _function() -> Any:
    """Return `ggml_quantize_chunk`, once it has made of some numbers what the `gguf` library makes of them."""
    spec = importlib.util.find_spec(f"{LIBRARY}.{LIBRARY}")
    function = getattr(ctypes.CDLL(str(spec.origin)), "ggml_quantize_chunk", None) if spec else None
    if function is None:
        raise ModelError(f"this version of {LIBRARY} does not show llama.cpp's quantiser", hint=HINT)
    function.restype = ctypes.c_size_t
    function.argtypes = (ctypes.c_int, *(ctypes.c_void_p,) * 2, *(ctypes.c_int64,) * 3, ctypes.c_void_p)
    sample = np.linspace(-1, 1, 512, dtype=np.float32).reshape(2, 256)
    expected = gguf.quantize(sample, Bits.Q8_0)
    made = np.empty_like(expected)
    _fill(function, sample, made, Bits.Q8_0)
    if not np.array_equal(made, expected):
        raise ModelError(FAILED, why=f"this version of {LIBRARY} does something else by that name", hint=HINT)
    return function
