"""Does tuning an encoder beat a linear head on its frozen vectors? `encoder.py [--draws N] [--rows 8 64] [--only SET]`.

Two real data sets; of each, 8 and 64 rows a label, drawn anew ten times. MiniLM is tuned with `classify` on these rows,
and logistic regression (its strength chosen by cross-validation) learns from the same rows' frozen mean vectors. Both
answer the same held-out rows. The draws are paired. Resumable; what is done is kept in the cache.
"""

import argparse
import json
import platform
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).parent))
from advise_data import SETS, Row, write
from luthier.core.settings import cache_dir
from luthier.model.device import hardware

PAGE = Path(__file__).parents[1] / "docs" / "proof" / "encoder.md"
WORK = cache_dir() / "bench" / "encoder"
STATE = WORK / "state.json"
USED = ("tones", "questions")
ROWS = (8, 64)
DRAWS = 10
TEST_ROWS = 200
EPOCHS = {8: 20, 64: 10}
RECIPE: dict[str, Any] = {
    "base_model": "minilm",
    "train": {
        "method": {"name": "classify", "calibrate": False},
        "adapter": "full",
        "batch_size": 8,
        "keep_best": False,
    },
    "evaluate": {"baselines": ["linear-head"], "max_rows": TEST_ROWS, "resamples": 200},
    "export": [],
}
CHILD = """
import sys
from pathlib import Path
from luthier.core.runfolder import RunFolder
from luthier.jobs.pipeline import run_recipe
from luthier.recipe_io.read import load_recipe
run_recipe(load_recipe(Path(sys.argv[1])), RunFolder(Path(sys.argv[2])))
"""


def main() -> None:
    """Measure what is missing, and write the page anew after each draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--only", action="append", choices=USED)
    parser.add_argument("--fresh", action="store_true", help="forget what was measured")
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    state: dict[str, dict[str, float]] = {} if options.fresh or not STATE.exists() else json.loads(STATE.read_text())
    for name in options.only or USED:
        for count in options.rows:
            for draw in range(options.draws):
                key = f"{name} {count} {draw}"
                if key not in state:
                    state[key] = measured(name, count, draw)
                    print(key, state[key], file=sys.stderr, flush=True)
                    STATE.write_text(json.dumps(state))
                    PAGE.write_text(page(state), encoding="utf-8")
    print(page(state))


def measured(name: str, count: int, draw: int) -> dict[str, float]:
    """Tune on one draw in a process of its own, and return both accuracies."""
    folder = WORK / f"{name}-{count}-{draw}"
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in write(name, WORK / "data").read_text(encoding="utf-8").splitlines()]
    train, test = drawn(rows, count, seed=draw)
    for part, its in (("train", train), ("test", test)):
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in its), encoding="utf-8")
    recipe = RECIPE | {
        "seed": draw,
        "data": {"path": "train.jsonl", "test_path": "test.jsonl", "split": {"validation": 0}},
    }
    recipe["data"]["near_duplicates"] = 1
    recipe["train"] = RECIPE["train"] | {"epochs": EPOCHS.get(count, 10)}
    (folder / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    command = [sys.executable, "-c", CHILD, str(folder / "recipe.yaml"), str(folder / "run")]
    with (folder / "log.txt").open("w") as log:
        subprocess.run(command, stdout=log, stderr=log, check=True)
    report = json.loads((folder / "run" / "evaluate" / "report.json").read_text(encoding="utf-8"))
    return {system["name"]: system["metrics"]["accuracy"]["value"] for system in report["systems"]}


def drawn(rows: list[Row], count: int, *, seed: int) -> tuple[list[Row], list[Row]]:
    """Return so many rows of each label to learn from, and others to answer."""
    draw = random.Random(seed)
    order = draw.sample(rows, len(rows))
    train: list[Row] = []
    for label in sorted({row["label"] for row in rows}):
        train += [row for row in order if row["label"] == label][:count]
    learnt = {row["text"] for row in train}
    return train, [row for row in order if row["text"] not in learnt][:TEST_ROWS]


def page(state: dict[str, dict[str, float]]) -> str:
    """Return the page."""
    head = f"""\
# A tuned encoder against a linear head on frozen vectors

{hardware().cores} cores, {platform.system()}. MiniLM (all-MiniLM-L6-v2, 23 M parameters); accuracy on at most
{TEST_ROWS} held-out rows, mean over draws; the same rows for both. Interval and p: paired t test over draws.

Written by `bench/encoder.py`.

| rows | a label | draws | linear head | tuned | difference | 95 % | p |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""
    groups: dict[str, list[dict[str, float]]] = {}
    for key, one in state.items():
        groups.setdefault(key.rpartition(" ")[0], []).append(one)
    return head + "".join(line(*group.split(" "), found) + "\n" for group, found in groups.items())


def line(name: str, count: str, found: list[dict[str, float]]) -> str:
    """Return the line of one data set and size."""
    head, tuned = (np.array([one[system] for one in found]) for system in ("linear-head", "tuned"))
    difference = tuned - head
    tail = "– | –"
    if len(found) > 1 and difference.std() > 0:
        test = stats.ttest_rel(tuned, head)
        low, high = test.confidence_interval(0.95)
        tail = f"{100 * low:+.1f} to {100 * high:+.1f} | {test.pvalue:.3f}"
    means = f"{head.mean():.3f} | {tuned.mean():.3f} | {100 * difference.mean():+.1f}"
    return f"| {name} | {count} | {len(found)} | {means} | {tail} |"


if __name__ == "__main__":
    assert set(USED) <= set(SETS)
    main()
