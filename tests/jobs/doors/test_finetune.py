from pathlib import Path

import pytest

from luthier.core.errors import RecipeError
from luthier.jobs.doors.draft import Translated, as_text, knows
from luthier.jobs.doors.finetune import Finetune, finetune
from luthier.jobs.doors.hf import ANSWERED, SAME, SPECIAL
from luthier.jobs.doors.rows import Rows
from luthier.recipe_io.read import load_recipe

ROWS = Rows(name="org/rows")


def asked(rows: Rows = ROWS, **training) -> Translated:
    return finetune(Finetune(model="org/base", rows=rows, training=training))


def refusal(**changes) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        finetune(Finetune(**({"model": "org/base", "rows": ROWS} | changes)))
    return caught.value


def test_each_option_of_the_same_meaning_is_a_field() -> None:
    assert all(knows(path) for path in SAME.values())
    assert not set(SAME) & set(ANSWERED) and not set(SAME) & set(SPECIAL) and not set(ANSWERED) & set(SPECIAL)


def test_options_become_the_recipe() -> None:
    made = asked(
        Rows(name="org/rows", train="train[:4096]", held_out="train[4096:4224]", template="Q: {q}\\nA: {a}"),
        max_steps=150,
        learning_rate=1e-4,
        per_device_train_batch_size=16,
        gradient_accumulation_steps=2,
        lora_r=8,
        lora_alpha=16,
        lora_dropout=0.1,
        gradient_checkpointing="true",
        eval_steps=50,
        save_steps=100,
        lr_scheduler_type="constant_with_warmup",
        target_modules="q_proj,v_proj",
        seed=3,
    )
    recipe, train = made.recipe, made.recipe.train
    assert (recipe.base_model, recipe.seed, recipe.export) == ("org/base", 3, ("adapter",))
    assert (recipe.data.path, recipe.data.validation_path) == ("org/rows:train[:4096]", "org/rows:train[4096:4224]")
    assert recipe.data.text_template == "Q: {q}\nA: {a}"
    assert (train.steps, train.batch_size, train.learning_rate, train.schedule.name) == (150, 32, 1e-4, "constant")
    assert (train.validate_every, train.checkpoint_every, train.gradient_checkpointing) == (50, 100, True)
    assert (train.adapter.r, train.adapter.alpha, train.adapter.dropout) == (8, 16, 0.1)
    assert train.adapter.target_modules == ("q_proj", "v_proj")
    assert any("16 × 2 = 32 rows per update" in remark for remark in made.remarks)


def test_what_is_shown_is_a_recipe_that_says_the_same(tmp_path: Path) -> None:
    made = asked(max_steps=5, lora_r=4, target_modules="q_proj")
    (tmp_path / "recipe.yaml").write_text(as_text(made.recipe))
    assert load_recipe(tmp_path / "recipe.yaml") == made.recipe


def test_optimisers_schedules_and_trackers_have_names_of_their_own_here() -> None:
    made = asked(
        optim="lion_32bit",
        lr_scheduler_type="warmup_stable_decay",
        report_to="wandb",
        label_smoothing_factor=0.1,
        neftune_noise_alpha=5,
    )
    train = made.recipe.train
    assert (train.optimizer.name, train.schedule.name, made.recipe.trackers) == (
        "lion",
        "wsd",
        ("tensorboard", "wandb"),
    )
    assert (train.method.label_smoothing, train.neftune_noise_alpha) == (0.1, 5)
    assert train.optimizer.betas == (0.9, 0.999), "the Trainer hands AdamW's betas on to Lion"


def test_precision_that_is_not_mixed_is_answered_and_a_constant_rate_has_no_warmup() -> None:
    made = asked(fp16=False, bf16="false", lr_scheduler_type="constant")
    assert {remark.partition(":")[0] for remark in made.remarks} >= {"fp16", "bf16"}
    assert (made.recipe.train.schedule.name, made.recipe.train.warmup) == ("constant", 0)


@pytest.mark.parametrize("value", [True, False])
def test_the_best_weights_are_kept_as_asked(value: bool) -> None:
    assert asked(load_best_model_at_end=value).recipe.train.keep_best is value


@pytest.mark.parametrize(
    "name", ["per_device_eval_batch_size", "logging_steps", "dataloader_num_workers", "logging_dir"]
)
def test_an_option_that_changes_nothing_is_answered_in_words(name: str) -> None:
    made = asked(**{name: 4})
    assert made.recipe == asked().recipe and f"{name}: {ANSWERED[name]}" in made.remarks


def test_an_optimiser_takes_the_same_steps_or_is_refused() -> None:
    plain = asked(optim="sgd", learning_rate=0.1).recipe.train.optimizer
    assert (plain.name, plain.momentum) == ("sgd", 0), "theirs has no momentum"
    averaging = asked(optim="schedule_free_adamw").recipe.train
    assert (averaging.optimizer.name, averaging.schedule.name) == ("schedule_free", "constant")
    assert refusal(training={"optim": "adafactor"}).where["option"] == "--optim", "theirs takes absolute steps"


def test_code_of_repositories_is_answered_and_no_recipe_field() -> None:
    assert any("never runs here" in remark for remark in asked(trust_remote_code=True).remarks)


def test_a_named_model_and_data_are_needed_or_said() -> None:
    made = finetune(Finetune(rows=ROWS))
    assert made.recipe.base_model == "smollm2-135m-instruct" and "no model is named" in " ".join(made.remarks)
    error = refusal(rows=Rows())
    assert error.where == {"option": "--data_name"} and "no data is named" in error.why


@pytest.mark.parametrize(
    ("changes", "option", "why"),
    [
        ({"training": {"optim": "paged_adamw_8bit"}}, "--optim", "no translation"),
        ({"training": {"lr_scheduler_type": "polynomial"}}, "--lr_scheduler_type", "no schedule"),
        (
            {"training": {"lr_scheduler_type": "constant", "warmup_ratio": 0.1}},
            "--warmup_ratio",
            "sets the same otherwise",
        ),
        ({"training": {"report_to": "neptune"}}, "--report_to", "no tracker `neptune`"),
        ({"training": {"gradient_checkpointing": "maybe"}}, "--gradient_checkpointing", "neither true nor false"),
        ({"training": {"per_device_train_batch_size": 0}}, "--per_device_train_batch_size", "no number of rows"),
        ({"method": "ia4"}, "--method", "there is no adapter `ia4`"),
        ({"task": "singing"}, "--task_name", "is none of"),
        ({"rows": Rows(name="json")}, "--data_name", "no file is named"),
        ({"rows": Rows(name="org/rows", files=("a.json",))}, "--data_files", "names a data set already"),
        ({"rows": Rows(files=("a.json",), held_out="validation")}, "--eval_split", "no split `validation`"),
        ({"rows": Rows(files=("a.json",), train="train[:10%]")}, "--train_split", "shares of a file"),
        ({"rows": Rows(name="org/rows", train="train[")}, "--train_split", "is no split"),
    ],
)
def test_what_cannot_be_translated_is_refused_by_name(changes: dict, option: str, why: str) -> None:
    error = refusal(**changes)
    assert error.where["option"] == option and why in error.why and error.hint


def test_several_refusals_are_told_at_once() -> None:
    error = refusal(training={"optim": "lamb", "report_to": "neptune"})
    assert "`report_to`" in error.where["also"]


def test_a_value_that_the_recipe_refuses_is_told_by_the_options_name() -> None:
    error = refusal(training={"max_steps": 0})
    assert error.where["option"] == "--max_steps" and error.where["recipe"] == "train.steps"
    error = refusal(training={"max_steps": 5, "num_train_epochs": 2.0})
    assert "both set" in error.what and error.where["option"] == "--max_steps"


def test_slices_of_a_file_are_ranges_of_its_rows() -> None:
    made = asked(Rows(name="json", files=("rows.json",), train="train[:40]", held_out="train[40:50]"))
    assert made.recipe.data.path.endswith("rows.json[:40]") and made.recipe.data.validation_path.endswith("[40:50]")


def test_tasks_name_their_metrics() -> None:
    made = finetune(Finetune(model="m", rows=ROWS, task="summarization"))
    assert made.recipe.evaluate.metrics == ("rouge_l",)
    assert "task_name" in " ".join(finetune(Finetune(model="m", rows=ROWS, task="classification")).remarks)
