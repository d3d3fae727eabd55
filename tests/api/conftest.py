"""The talk routes, served over a fake engine."""

from collections.abc import Iterator

import pytest
from tests.api.fakes import FakeEngine, Room, app_with, inference_with, served


@pytest.fixture(scope="module")
def house() -> Iterator[Room]:
    room = Room(FakeEngine(), "", None)
    room.inference = inference_with(lambda name: room.engine)
    with served(app_with(room.inference)) as address:
        room.address = address
        yield room
    room.inference.close()


@pytest.fixture
def room(house: Room) -> Room:
    """Give each test an engine as new."""
    vars(house.engine).update(vars(FakeEngine()))
    return house
