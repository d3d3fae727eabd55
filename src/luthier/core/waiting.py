"""How OpenMP's threads wait for each other, settled before torch is loaded."""

import os

SPINS = "1000"
BUSY = 0.5
"""Of the cores, how many others use for the machine to count as busy."""
NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def settle_waiting() -> None:
    """Let threads sleep while they wait, where other programs compute here; what the environment says stays.

    libgomp's threads spin for milliseconds between two products. That is fast on a quiet machine; on a busy one the
    spinning thread takes the time of the one it waits for. Measured on two cores with three other programs: layers of a
    small model for 16 rows 600 to 1,400 ms by default, 30 to 35 ms with few spins.
    """
    if any(name in os.environ for name in NAMES) or not hasattr(os, "getloadavg"):
        return
    if os.getloadavg()[0] >= BUSY * (os.cpu_count() or 1):
        os.environ["GOMP_SPINCOUNT"] = SPINS
