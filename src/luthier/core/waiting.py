"""How OpenMP's threads wait for each other, settled before torch is loaded."""

import os
import time
from pathlib import Path
from statistics import median

SPINS = "1000"
BUSY = 0.5
"""Of the cores, how many others use for the machine to count as busy."""
LOOKS, APART_S = 5, 0.01
NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
LOAD = Path("/proc/loadavg")


def settle_waiting() -> None:
    """Let threads sleep while they wait, where other programs compute here; what the environment says stays.

    libgomp's threads spin for milliseconds between two products. That is fast on a quiet machine; on a busy one the
    spinning thread takes the time of the one it waits for. Measured on two cores with three other programs: layers of a
    small model for 16 rows 600 to 1,400 ms by default, 30 to 35 ms with few spins. Quiet, few spins cost a quarter.
    """
    if not any(name in os.environ for name in NAMES) and _others_compute():
        os.environ["GOMP_SPINCOUNT"] = SPINS


def waits_asleep() -> bool:
    """Say whether threads are to sleep while they wait, as was settled or as the environment says."""
    few = os.environ.get("GOMP_SPINCOUNT", "").isdecimal() and int(os.environ["GOMP_SPINCOUNT"]) <= int(SPINS)
    return few or os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE"


def _others_compute() -> bool:
    """Say whether others computed in the last minute, and still do."""
    wanted = BUSY * (os.cpu_count() or 1)
    if not LOAD.exists() or os.getloadavg()[0] < wanted:
        return False
    running = []
    for _ in range(LOOKS):
        # "0.20 0.18 0.12 3/80 11206": three threads run now, and one of them is this one.
        running.append(int(LOAD.read_text().split()[3].partition("/")[0]) - 1)
        time.sleep(APART_S)
    return median(running) >= wanted
