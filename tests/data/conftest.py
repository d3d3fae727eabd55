"""A tiny base model, a cache of its own for every test, and a list of what was emitted."""

from pathlib import Path

import pytest

from luthier.core.artifacts import Base
from luthier.core.events import Event
from luthier.model.tiny import save_tiny


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = save_tiny(tmp_path_factory.mktemp("base"), "llama")
    return Base(name="tiny", folder=folder, weights_sha256="0")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def events() -> list[Event]:
    return []
