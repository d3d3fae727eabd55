from pathlib import Path

import pytest

from luthier.jobs.doctor import examine


def test_everything_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "not" / "yet"))
    found = {finding.name: finding for finding in examine()}
    assert {
        "python",
        "torch",
        "cpu",
        "memory",
        "precision",
        "speed",
        "compiler",
        "cache folder",
        "embedded model",
    } <= set(found)
    assert str(tmp_path) in found["cache folder"].value and "GFLOP/s" in found["speed"].value
    assert all(finding.hint for finding in found.values() if finding.state != "ok")


def test_problems_come_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier.jobs.doctor.LEAST_MEMORY_BYTES", 1 << 60)
    monkeypatch.setattr("luthier.jobs.doctor.LEAST_DISK_BYTES", 1 << 60)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    states = {finding.name: (finding.state, bool(finding.hint)) for finding in examine()}
    assert states["memory"] == states["runs folder"] == ("problem", True) and states["compiler"] == ("note", True)
