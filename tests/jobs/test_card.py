from pathlib import Path

import pytest
from tests.jobs.fakes import FACTS, FakeRooms

from luthier.core.artifacts import Report, Trained
from luthier.jobs.card import model_card
from luthier.jobs.plan import resolve
from luthier.recipe import Plan, Recipe


@pytest.fixture
def made(tmp_path: Path) -> tuple[Plan, Trained, Report]:
    rooms = FakeRooms()
    base = rooms.base("/home/someone/model", print)
    prepared = rooms.data(None, base, tmp_path, print, seed=1)
    trained = rooms.train(None, prepared, tmp_path, lambda event: None, seed=1)
    plan = resolve(Recipe(data={"path": "/home/someone/rows.jsonl"}, export=("merged", "adapter")), FACTS)
    return plan, trained, rooms.evaluate(None, trained, tmp_path, print, seed=1)


def test_the_card_says_what_it_is_made_of_and_how_good_it_is(made: tuple[Plan, Trained, Report]) -> None:
    card = model_card(*made)
    for words in (
        "license: apache-2.0",
        "base_model: model",
        "`rows.jsonl`",
        "800 train rows",
        "0.800",
        "peft",
        "5e-04",
    ):
        assert words.replace("5e-04", "0.0005") in card
    assert "someone" not in card


def test_an_unmeasured_model_says_so(made: tuple[Plan, Trained, Report]) -> None:
    assert "Not measured" in model_card(made[0], made[1], None)
