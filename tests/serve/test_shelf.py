"""Adapters come when they are asked for, stay while they are held, and the least recently used leave."""

import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.serve.made import plain, save_adapter

from luthier.core.errors import LuthierError, ModelError
from luthier.serve.adapters import EMPTY, changed, read_adapter
from luthier.serve.lora import route_linears
from luthier.serve.shelf import Shelf

COUNT = 6


@pytest.fixture(scope="module")
def sizes(offline):
    return route_linears(plain(offline("llama").base))[1]


@pytest.fixture(scope="module")
def folders(offline, tmp_path_factory) -> list[Path]:
    root = tmp_path_factory.mktemp("adapters")
    return [save_adapter(offline("llama").base, root / f"{number}", seed=number) for number in range(COUNT)]


@pytest.fixture(scope="module")
def one_bytes(folders, sizes) -> int:
    return changed(EMPTY, add=read_adapter(folders[0], sizes)).bytes


@pytest.fixture
def shelf(sizes, one_bytes):
    made = Shelf(sizes, 3 * one_bytes)
    yield made
    made.close()


def hold(shelf: Shelf, adapter: Path) -> LuthierError | None:
    told, there = [], threading.Event()

    def then(error: LuthierError | None) -> None:
        told.append(error)
        there.set()

    shelf.hold(adapter, then)
    assert there.wait(10)
    return told[0]


def settled(shelf: Shelf) -> set[Path]:
    """Return what is there once all that was put in line is done: closing waits for it."""
    shelf.close()
    return set(shelf.registry.places)


def test_the_least_recently_used_leave(shelf, folders) -> None:
    for place in (0, 1, 2, 0, 3):
        assert hold(shelf, folders[place]) is None
        shelf.let_go(folders[place])
    assert settled(shelf) == {folders[0], folders[2], folders[3]}


def test_held_ones_stay_whatever_the_limit(shelf, folders, one_bytes) -> None:
    for folder in folders:
        assert hold(shelf, folder) is None
        assert folder in shelf.registry.places
    assert set(shelf.registry.places) == set(folders) and shelf.registry.bytes == COUNT * one_bytes
    for folder in folders:
        shelf.let_go(folder)
    assert settled(shelf) == set(folders[-3:])


def test_those_let_go_make_room_for_the_next(shelf, folders, one_bytes) -> None:
    for folder in folders[:5]:
        hold(shelf, folder)
        shelf.let_go(folder)
    assert hold(shelf, folders[5]) is None
    assert shelf.registry.bytes <= 3 * one_bytes
    assert settled(shelf) == set(folders[3:])


def test_unload_waits_for_who_holds_it(shelf, folders) -> None:
    hold(shelf, folders[0])
    hold(shelf, folders[0])
    shelf.unload(folders[0])
    shelf.let_go(folders[0])
    assert hold(shelf, folders[1]) is None
    assert folders[0] in shelf.registry.places
    shelf.unload(folders[0])
    shelf.let_go(folders[0])
    assert settled(shelf) == {folders[1]}


def test_unloading_what_is_not_there_does_nothing(shelf, folders) -> None:
    shelf.unload(folders[0])
    assert hold(shelf, folders[1]) is None
    shelf.unload(folders[1])
    assert hold(shelf, folders[1]) is None
    assert settled(shelf) == {folders[1]}


def test_a_folder_that_cannot_be_read_harms_nobody(shelf, folders, tmp_path) -> None:
    hold(shelf, folders[0])
    before = shelf.registry
    assert isinstance(hold(shelf, tmp_path / "nowhere"), ModelError)
    shelf.let_go(tmp_path / "nowhere")
    assert shelf.registry is before
    assert hold(shelf, folders[0]) is None


def test_who_asks_is_told_even_of_what_nobody_foresaw(sizes, folders) -> None:
    class Torn(dict):
        def get(self, *args):
            raise MemoryError

    shelf = Shelf(Torn(sizes), 1)
    error = hold(shelf, folders[0])
    assert isinstance(error, ModelError) and error.why == "MemoryError"
    assert not settled(shelf)


def test_after_the_end_nothing_is_read_and_nothing_breaks(shelf, folders) -> None:
    hold(shelf, folders[0])
    shelf.unload(folders[0])
    shelf.close()
    shelf.let_go(folders[0])
    shelf.unload(folders[0])
    assert set(shelf.registry.places) == {folders[0]}


def test_many_threads_find_what_they_hold(shelf, folders) -> None:
    missing: Counter[str] = Counter()

    def visit(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(30):
            folder = draw.choice(folders)
            missing["errors"] += hold(shelf, folder) is not None
            for _ in range(3):
                missing["gone"] += folder not in shelf.registry.places
                time.sleep(0.0002)
            if draw.random() < 0.3:
                shelf.unload(folder)
            shelf.let_go(folder)

    threads = [threading.Thread(target=visit, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert missing.total() == 0 and set(missing) == {"errors", "gone"}
