import os

import pytest

from luthier.core.waiting import NAMES, SPINS, settle_waiting


@pytest.mark.parametrize(("load", "given", "after"), [(9e9, None, SPINS), (0.0, None, None), (9e9, "70", "70")])
def test_threads_sleep_where_others_compute(monkeypatch, load: float, given: str | None, after: str | None) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    if given:
        monkeypatch.setenv("GOMP_SPINCOUNT", given)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load), raising=False)
    settle_waiting()
    assert os.environ.get("GOMP_SPINCOUNT") == after
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)


def test_what_the_environment_says_of_waiting_stays(monkeypatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.setattr(os, "getloadavg", lambda: (9e9, 0.0, 0.0), raising=False)
    settle_waiting()
    assert "GOMP_SPINCOUNT" not in os.environ
