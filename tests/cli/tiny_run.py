"""A tiny model, a few rows and a recipe, and the command line in this process or a fresh one."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

from luthier.model.tiny import save_tiny

COMMAND = "from luthier.cli.main import main; main()"
RECIPE = """\
base_model: base
data: rows.jsonl
train: {steps: 3, batch_size: 4, adapter: {r: 2}, threads: 1, precision: fp32}
evaluate: {resamples: 200, max_rows: 6}
"""


def make_tiny(folder: Path) -> Path:
    """Write model, rows and recipe, and return the folder."""
    save_tiny(folder / "base", "llama")
    words = random.Random(0)
    texts = ["".join(words.choices("abcdefghij ", k=30)) for _ in range(60)]
    rows = [{"text": text, "label": "ab"[i % 2]} for i, text in enumerate(texts)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def luthier(folder: Path, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a fresh process, in a folder, with its own cache."""
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *words],
        cwd=folder,
        env=environment(folder),
        input=stdin if stdin is not None else "",
        capture_output=True,
        text=True,
        timeout=300,
    )


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of such a process."""
    own = {"LUTHIER_CACHE": str(folder / "cache"), "LUTHIER_RUNS": "runs", "COLUMNS": "100", "NO_COLOR": "1"}
    return os.environ | own | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
