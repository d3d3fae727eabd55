"""Is the verdict right? `advise.py [--only NAME]… [--fresh] [--page]`; resumable, one data set at a time.

Each real data set gets `luthier advise` under a budget of ten minutes, and then the exhaustive measurement: more
held-out rows, all alternatives, tunings on all rows. Both verdicts and their numbers go to docs/proof/advise.md. What
is done is kept in the cache; tunings that the first pass did are not done again.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from advise_data import SETS, write
from luthier.core.settings import cache_dir
from luthier.model.device import hardware

PAGE = Path(__file__).parents[1] / "docs" / "proof" / "advise.md"
WORK = cache_dir() / "bench" / "advise"
STATE = WORK / "state.json"
BUDGET_S, EXHAUSTIVE_S = 600.0, 12 * 3600.0
CHILD = """
import json, sys
from pathlib import Path
from luthier.jobs.advise.advise import Wanted, advise
file, out, budget = sys.argv[1:4]
wanted = Wanted(files=(file,), out=Path(out), budget_s=float(budget), held_out=200)
advised = advise(wanted, lambda event: event.message and print(event.room, event.message, file=sys.stderr, flush=True))
print(advised.model_dump_json())
"""


def main() -> None:
    """Measure what is missing, and write the page anew after each data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=list(SETS))
    parser.add_argument("--fresh", action="store_true", help="forget what was measured")
    parser.add_argument("--page", action="store_true", help="write the page only")
    options = parser.parse_args()
    state = {} if options.fresh or not STATE.exists() else json.loads(STATE.read_text())
    for name in options.only or SETS if not options.page else ():
        for kind, budget in (("advised", BUDGET_S), ("exhaustive", EXHAUSTIVE_S)):
            if kind in state.get(name, {}):
                continue
            state.setdefault(name, {})[kind] = measured(name, budget)
            STATE.write_text(json.dumps(state))
        PAGE.write_text(page(state), encoding="utf-8")
    PAGE.write_text(page(state), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


def measured(name: str, budget: float) -> dict[str, Any]:
    """Ask for advice in a process of its own."""
    data = write(name, WORK / "data")
    started = time.monotonic()
    command = [sys.executable, "-c", CHILD, str(data), str(WORK / name), str(budget)]
    with (WORK / f"{name}.log").open("a") as log:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True, check=True)
    advised = json.loads(done.stdout)
    print(f"{name}: {advised['choice']} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return advised


def page(state: dict[str, Any]) -> str:
    """Return the page."""
    whole = {name: both for name, both in state.items() if len(both) == 2}
    agreed = sum(both["advised"]["choice"] == both["exhaustive"]["choice"] for both in whole.values())
    machine = hardware()
    lines = [
        "# Is the verdict right? A budget of ten minutes beside the exhaustive measurement",
        "",
        f"{agreed} of {len(whole)} verdicts agree. SmolLM2-135M-Instruct, rows from package registries "
        "(`bench/advise_data.py` names source and licence), at most 200 held-out rows; exhaustive: all alternatives, "
        "tunings on all training rows, no budget. `python bench/advise.py` writes this page, and goes on where it "
        "stopped.",
        "",
        f"Machine: {machine.cpu}, {machine.cores} cores, {platform.system()}.",
        "",
        "| data | training rows | task | metric | ten minutes: verdict (used) | exhaustive: verdict (used) | agree |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, both in whole.items():
        short, full = both["advised"], both["exhaustive"]
        cells = [name, str(full["rows"]["train"]), full["task"], full["metric"], verdict(short), verdict(full)]
        lines.append(f"| {' | '.join(cells)} | {'yes' if short['choice'] == full['choice'] else '**no**'} |")
    for name, both in whole.items():
        lines += ["", f"## {name}", "", f"Exhaustive: {both['exhaustive']['verdict']}", ""]
        lines += alternatives(both)
        lines += [f"- {reason}" for reason in both["exhaustive"]["bases"][0]["reasons"]]
    return "\n".join(lines) + "\n"


def verdict(advised: dict[str, Any]) -> str:
    """Return the choice, what it stands for, and the time it took."""
    return f"{advised['choice']}: {advised['bases'][0]['chosen']} ({advised['seconds']:.0f} s)"


def alternatives(both: dict[str, Any]) -> list[str]:
    """Return a table of all alternatives, in ten minutes and exhaustive."""
    short, full = (
        {one["name"]: one["value"] for one in both[kind]["bases"][0]["alternatives"]}
        for kind in ("advised", "exhaustive")
    )
    ordered = sorted(dict.fromkeys([*full, *short]), key=lambda name: -(full.get(name) or short[name])["value"])
    rows = [f"| {name} | {told(short.get(name))} | {told(full.get(name))} |" for name in ordered]
    return ["| alternative | ten minutes | exhaustive |", "|---|---|---|", *rows, ""]


def told(value: dict[str, float] | None) -> str:
    """Return a value with its interval and its rows."""
    if value is None:
        return "–"
    return f"{value['value']:.3f} [{value['low']:.3f}–{value['high']:.3f}], n = {value['n']}"


if __name__ == "__main__":
    main()
