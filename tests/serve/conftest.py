"""One folder of each tiny model for all tests of the room."""

from collections.abc import Callable

import pytest
from tests.serve.made import Offline, save_model


@pytest.fixture(scope="session")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Offline]:
    """Return a family's model in a folder, with what it says offline."""
    made: dict[str, Offline] = {}

    def of(family: str) -> Offline:
        if family not in made:
            made[family] = Offline(save_model(tmp_path_factory.mktemp(family) / "base", family))
        return made[family]

    return of
