"""Does tuning an encoder beat a linear head on its frozen vectors? `encoder.py [--draws N] [--rows 8 64] [--only SET]`.

Two real data sets. Of each, the same held-out rows are answered by all; from the others, 8 and 64 rows a label are
drawn ten times, and no row is drawn twice before each was drawn once. MiniLM is tuned with `classify` on a draw, and
logistic regression (its strength chosen by cross-validation on these rows) learns from the same rows' frozen mean
vectors. Resumable, draw by draw; what is done is kept in the cache.
"""

import argparse
import hashlib
import json
import platform
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).parent))
from advise_data import Row, all_questions, all_tones
from luthier.core.files import write_atomic
from luthier.core.settings import cache_dir
from luthier.model.device import hardware

PAGE = Path(__file__).parents[1] / "docs" / "proof" / "encoder.md"
WORK = cache_dir() / "bench" / "encoder"
STATE = WORK / "state.json"
SETS: dict[str, Callable[[Path], list[Row]]] = {"tones": all_tones, "questions": all_questions}
ROWS = (8, 64)
DRAWS = 10
TEST_ROWS = 400
SEED = 17
RESAMPLES = 10_000
HEAD, TUNED = "linear-head", "tuned"
EPOCHS = {8: 20, 64: 6}
"""Fixed beforehand, and the same for both sets; what else training needs is what Luthier chooses by itself."""
RECIPE: dict[str, Any] = {
    "base_model": "minilm",
    "data": {
        "path": "train.jsonl",
        "test_path": "test.jsonl",
        "split": {"validation": 0},
        "near_duplicates": 1,
        "repeats": "keep",
    },
    "train": {
        "method": {"name": "classify", "calibrate": False},
        "adapter": "full",
        "batch_size": 16,
        "keep_best": False,
        "checkpoint_every": 1_000_000,
    },
    "evaluate": {"baselines": [HEAD], "max_rows": TEST_ROWS, "resamples": 200},
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
SETUP = hashlib.sha256(json.dumps([RECIPE, EPOCHS, TEST_ROWS, SEED]).encode()).hexdigest()[:16]
"""What was measured with another setup is measured again."""

Measured = dict[str, Any]
"""Of each system whether it was right, one digit a held-out row; `seconds` the draw took, and its `setup`."""


def main() -> None:
    """Measure what is missing, and write the page anew after each draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--only", action="append", choices=list(SETS))
    parser.add_argument("--fresh", action="store_true", help="forget what was measured")
    parser.add_argument("--page", action="store_true", help="write the page only")
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    state = {} if options.fresh else kept()
    # Draw by draw and not set by set: whenever it is stopped, all four lines have about as many draws.
    wanted = [(name, count, draw) for draw in range(options.draws) for name in SETS for count in options.rows]
    for name, count, draw in wanted if not options.page else []:
        key = f"{name} {count} {draw}"
        if key not in state and name in (options.only or SETS):
            state[key] = measured(name, count, draw)
            print(key, told(state[key]), file=sys.stderr, flush=True)
            write_atomic(STATE, json.dumps(state))
            PAGE.write_text(page(state), encoding="utf-8")
    PAGE.write_text(page(state), encoding="utf-8")
    print(page(state))


def kept() -> dict[str, Measured]:
    """Return what was measured with this setup."""
    found: dict[str, Measured] = json.loads(STATE.read_text(encoding="utf-8")) if STATE.exists() else {}
    return {key: one for key, one in found.items() if one.get("setup") == SETUP}


def measured(name: str, count: int, draw: int) -> Measured:
    """Tune on one draw in a process of its own, and return which rows both had right."""
    folder, started = WORK / f"{name}-{count}-{draw}", time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (WORK / "data").mkdir(exist_ok=True)
    for part, rows in zip(("train", "test"), drawn(SETS[name](WORK / "data"), count, draw), strict=True):
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = RECIPE | {"seed": draw, "train": RECIPE["train"] | {"epochs": EPOCHS[count]}}
    (folder / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    command = [sys.executable, "-c", CHILD, str(folder / "recipe.yaml"), str(folder / "run")]
    with (folder / "log.txt").open("w") as log:
        subprocess.run(command, stdout=log, stderr=log, check=True)

    samples = [json.loads(line) for line in (folder / "run" / "evaluate" / "samples.jsonl").read_text().splitlines()]
    right = {
        system: "".join(str(int(sample["answers"][system]["scores"]["accuracy"])) for sample in samples)
        for system in (HEAD, TUNED)
    }
    if len(samples) != TEST_ROWS:
        raise ValueError(f"{len(samples)} held-out rows were answered, not {TEST_ROWS}: see {folder}")
    # A run keeps the model and its optimiser, 360 MB.
    shutil.rmtree(folder)
    return right | {"seconds": time.monotonic() - started, "setup": SETUP}


def drawn(rows: list[Row], count: int, draw: int) -> tuple[list[Row], list[Row]]:
    """Return the rows of a draw, so many of each label, and the held-out rows, which are those of all draws."""
    order = random.Random(SEED).sample(rows, len(rows))
    test, others = order[:TEST_ROWS], order[TEST_ROWS:]
    train: list[Row] = []
    for label in sorted({row["label"] for row in rows}):
        its = [row for row in others if row["label"] == label]
        if len(its) < count:
            raise ValueError(f"only {len(its)} rows have the label {label}")
        train += [its[(draw * count + place) % len(its)] for place in range(count)]
    return train, test


def page(state: dict[str, Measured]) -> str:
    """Return the page."""
    machine, minutes = hardware(), sum(one["seconds"] for one in state.values()) / 60
    head = f"""\
# A tuned encoder against a linear head on frozen vectors

MiniLM (all-MiniLM-L6-v2, 23 M parameters): all weights tuned with `classify`, {EPOCHS[8]} epochs on 8 rows a label and
{EPOCHS[64]} on 64, otherwise what Luthier chooses by itself; beside it logistic regression on the untuned model's
vectors of the same rows, its strength chosen by cross-validation. Both answer the same {TEST_ROWS} held-out rows after
each draw, and no row is drawn twice before each was drawn once (of the tones, there are too few for ten draws of 64).

Accuracy, mean over draws. Over draws: paired t test. Over rows: the held-out rows drawn anew {RESAMPLES:,} times
(bootstrap), each with its mean over draws. `python bench/encoder.py` writes this page, and goes on where it stopped.

Machine: {machine.cpu}, {machine.cores} cores, {platform.system()}; {minutes:.0f} minutes.

| rows | a label | draws | linear head | tuned | difference | 95 % over draws | p | 95 % over rows | draws won |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""
    groups: dict[str, list[Measured]] = {}
    for key, one in state.items():
        groups.setdefault(key.rpartition(" ")[0], []).append(one)
    return head + "".join(line(*group.split(" "), groups[group]) + "\n" for group in sorted(groups, key=_place))


def _place(group: str) -> tuple[int, int]:
    name, _, count = group.partition(" ")
    return list(SETS).index(name), int(count)


def line(name: str, count: str, found: list[Measured]) -> str:
    """Return the line of one data set and size."""
    head, tuned = (np.array([[int(digit) for digit in one[system]] for one in found]) for system in (HEAD, TUNED))
    difference, by_row = (tuned - head).mean(axis=1), (tuned - head).mean(axis=0)
    over_draws = "– | –"
    if len(found) > 1 and difference.std() > 0:
        test = stats.ttest_rel(tuned.mean(axis=1), head.mean(axis=1))
        over_draws = f"{_span(*test.confidence_interval(0.95))} | {test.pvalue:.2g}"
    places = np.random.default_rng(SEED).integers(len(by_row), size=(RESAMPLES, len(by_row)))
    over_rows = _span(*np.quantile(by_row[places].mean(axis=1), (0.025, 0.975)))
    means = f"{head.mean():.3f} | {tuned.mean():.3f} | {100 * difference.mean():+.1f}"
    won = f"{(difference > 0).sum()} of {len(found)}"
    return f"| {name} | {count} | {len(found)} | {means} | {over_draws} | {over_rows} | {won} |"


def _span(low: float, high: float) -> str:
    return f"{100 * low:+.1f} to {100 * high:+.1f}"


def told(one: Measured) -> str:
    """Return a draw in a few words."""
    head, tuned = (one[system].count("1") / len(one[system]) for system in (HEAD, TUNED))
    return f"linear head {head:.3f}, tuned {tuned:.3f}, {one['seconds']:.0f} s"


if __name__ == "__main__":
    main()
