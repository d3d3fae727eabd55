from pathlib import Path

import pytest
from tests.jobs.fakes import FakeRooms
from tests.jobs.service.made import settings_of
from tests.jobs.service.test_examine import job_of

from luthier.core.runfolder import RunFolder
from luthier.jobs.service.recipes import plan_of, recipe_of, settled
from luthier.jobs.service.records import Hyperparameters
from luthier.recipe_io.read import check_recipe, load_recipe, recipe_yaml


@pytest.fixture(autouse=True)
def training(tmp_path: Path) -> None:
    (tmp_path / "training.jsonl").write_text("{}\n")


def test_a_job_becomes_a_recipe_that_can_be_written_and_read(tmp_path: Path) -> None:
    wanted = Hyperparameters(n_epochs=4, batch_size=2, learning_rate_multiplier=0.5)
    job = job_of(validation_file="file-v", hyperparameters=wanted, seed=9)
    recipe = recipe_of(job, RunFolder(tmp_path), settings_of("base/folder"))
    check_recipe(recipe)
    assert (recipe.base_model, recipe.seed, recipe.evaluate, recipe.export) == ("base/folder", 9, None, ())
    assert (recipe.data.path, recipe.data.validation_path) == (
        str(tmp_path / "training.jsonl"),
        str(tmp_path / "validation.jsonl"),
    )
    assert (recipe.data.split.validation, recipe.data.split.test) == (0.0, 0.0)
    assert (recipe.data.unreadable_rows, recipe.data.too_long) == ("stop", "cut")
    train = recipe.train
    assert (train.method.name, train.adapter.name, train.epochs, train.batch_size) == ("sft", "lora", 4.0, 2)
    assert (train.snapshots, train.keep_best, train.threads, train.adapter.r) == (3, False, 1, 2)

    (tmp_path / "recipe.yaml").write_text(recipe_yaml(recipe))
    folder = recipe.model_copy(update={"base_model": str(tmp_path / "base/folder")})
    assert load_recipe(tmp_path / "recipe.yaml").model_dump(exclude={"base_model"}) == folder.model_dump(
        exclude={"base_model"}
    )


def test_without_a_validation_file_nothing_is_held_out(tmp_path: Path) -> None:
    recipe = recipe_of(job_of(), RunFolder(tmp_path), settings_of())
    assert recipe.data.validation_path is None and recipe.train.early_stopping is None


@pytest.mark.parametrize(
    ("row", "template"),
    [
        ('{"prompt": "2+2=", "completion": " 4"}', "{prompt}{completion}"),
        ('{"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]}', None),
        ('{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}', None),
    ],
)
def test_texts_to_continue_are_trained_as_they_are_asked_for(tmp_path: Path, row: str, template: str | None) -> None:
    (tmp_path / "training.jsonl").write_text(f"{row}\n")
    assert recipe_of(job_of(), RunFolder(tmp_path), settings_of()).data.text_template == template


@pytest.mark.parametrize("beta", [None, "auto", 0.3])
def test_dpo(tmp_path: Path, beta: float | str | None) -> None:
    job = job_of(method="dpo", hyperparameters=Hyperparameters(beta=beta))
    method = recipe_of(job, RunFolder(tmp_path), settings_of()).train.method
    assert method.name == "dpo" and method.beta == (0.3 if beta == 0.3 else type(method)().beta)


@pytest.mark.parametrize("multiplier", ["auto", 1.0, 0.25, 4])
def test_auto_is_resolved_and_the_learning_rate_multiplied(tmp_path: Path, multiplier: float | str) -> None:
    rooms, settings = FakeRooms(), settings_of()
    plans = []
    for wanted in (Hyperparameters(), Hyperparameters(learning_rate_multiplier=multiplier)):
        job = job_of(hyperparameters=wanted)
        words = {"rooms": rooms.rooms(), "emit": lambda event: None}
        plans.append(plan_of(job, RunFolder(tmp_path), settings, **words))
    factor = 1.0 if multiplier == "auto" else multiplier
    assert plans[1].train.learning_rate == plans[0].train.learning_rate * factor
    used = settled(job, plans[1])
    assert (used.n_epochs, used.batch_size, used.learning_rate_multiplier) == (3, plans[1].train.batch_size, factor)
    assert used.beta is None and isinstance(used.batch_size, int)
