"""The process in which a user's Python metric runs: rows come in as JSON lines, one number per row goes out.

It is started as a script and imports nothing of Luthier.
"""

import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

LONGEST_WHY = 300


def main() -> None:
    """Call `score` of the file named on the command line for each row."""
    file = Path(sys.argv[1]).absolute()
    with _quiet() as out:
        try:
            score = _load(file)
            for line in sys.stdin.buffer:
                told = json.loads(line)
                value = score(told["prompt"], told["answer"], told["reference"], told["row"])
                print(_number(value), file=out, flush=True)
        except BaseException as error:
            print(json.dumps({"error": _why(error, file)}), file=out, flush=True)
            if not isinstance(error, Exception):
                raise


def _quiet() -> IO[str]:
    """Return what the numbers are written to; whatever else the user's code prints goes to stderr."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def _load(file: Path) -> Callable[..., Any]:
    # Its neighbours may be imported, this file's may not.
    sys.path[0] = str(file.parent)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ValueError("this is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    score = getattr(module, "score", None)
    if not callable(score):
        raise ValueError("it has no function `score(prompt, answer, reference, row)`")
    return score


def _number(value: Any) -> str:
    try:
        return repr(float(value))
    except (TypeError, ValueError):
        raise ValueError(f"score returned {str(value)[:80]!r}, which is no number") from None


def _why(error: BaseException, file: Path) -> str:
    """Return what went wrong and the last line of the user's file that it went through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    line = frames[-1].lineno if frames else getattr(error, "lineno", None)
    said = f"{type(error).__name__}: {error}" if not _is_ours(error) else str(error)
    return " ".join(said.split())[:LONGEST_WHY] + (f" (line {line})" if line else "")


def _is_ours(error: BaseException) -> bool:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return last.filename == __file__ and isinstance(error, ValueError)


if __name__ == "__main__":
    main()
