"""A watched Python that calls the functions it is asked to: the place where the zoo's animals are let out."""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from luthier.core.errors import LuthierError


def main() -> None:
    """Answer one call a line until there are no more; each answer tells what it cost."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        module, _, name = asked["call"].partition(":")
        called = getattr(importlib.import_module(module), name)
        out.write(json.dumps(measured(called, asked["given"])) + "\n")
        out.flush()


def measured(called: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    """Call a function; return what it said, or how it refused, with its seconds and the growth of this process."""
    before, started, worked = _rss_bytes("VmRSS"), time.monotonic(), _worked()
    Path("/proc/self/clear_refs").write_text("5")
    try:
        said, refused = called(**given), None
    except LuthierError as error:
        said, refused = None, {"kind": type(error).__name__, "text": str(error)}
    except BaseException as error:  # noqa: BLE001 (whatever it is, the test is to see it)
        said, refused = None, {"kind": type(error).__name__, "text": f"UNFORESEEN {error}"}
    wall, growth = time.monotonic() - started, _rss_bytes("VmHWM") - before
    told = {"said": said, "refused": refused, "growth_bytes": growth}
    return told | {"seconds": _worked() - worked, "wall_seconds": wall}


def _worked() -> float:
    """Return the seconds of computing of this process and its ended children."""
    return sum(os.times()[:4])


def _rss_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


if __name__ == "__main__":
    main()
