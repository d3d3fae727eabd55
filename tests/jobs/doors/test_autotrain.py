from pathlib import Path

import pytest

from luthier.core.errors import RecipeError
from luthier.jobs.doors.config import Config, missing_packages, read_config

SFT = """\
task: llm-sft
base_model: org/base
project_name: my-llm
log: tensorboard
backend: local

data:
  path: org/rows
  train_split: train
  valid_split: test
  chat_template: tokenizer
  column_mapping:
    text_column: messages

params:
  block_size: 1024
  model_max_length: 2048
  epochs: 2
  batch_size: 1
  lr: 1e-5
  peft: true
  lora_r: 32
  target_modules: all-linear
  padding: right
  optimizer: adamw_torch
  scheduler: linear
  gradient_accumulation: 8
  mixed_precision: bf16
  merge_adapter: true

hub:
  username: me
  token: secret-word
  push_to_hub: false
"""


def read(folder: Path, text: str) -> Config:
    (folder / "autotrain.yaml").write_text(text)
    return read_config(folder / "autotrain.yaml")


def test_a_file_for_sft_becomes_a_recipe(tmp_path: Path) -> None:
    found = read(tmp_path, SFT)
    recipe, train = found.recipe, found.recipe.train
    assert (found.kind, found.out, recipe.base_model) == ("AutoTrain", Path("my-llm"), "org/base")
    assert (recipe.data.path, recipe.data.validation_path) == ("org/rows:train", "org/rows:test")
    assert (recipe.data.max_tokens, recipe.data.too_long, recipe.export) == (1024, "cut", ("merged",))
    assert (train.method.name, train.epochs, train.batch_size, train.learning_rate) == ("sft", 2, 8, 1e-5)
    assert (train.adapter.name, train.adapter.r, train.adapter.target_modules) == ("lora", 32, "auto")
    assert (train.schedule.name, train.precision) == ("linear", "bf16")
    said = " ".join(found.remarks)
    assert "params.padding: no pads" in said and "hub.token: not read" in said and "secret-word" not in said
    assert missing_packages(recipe) == []


def test_a_file_for_dpo_and_one_for_classification(tmp_path: Path) -> None:
    columns = "{prompt_text_column: prompt, text_column: chosen, rejected_text_column: rejected}"
    text = f"task: llm-dpo\nbase_model: b\ndata: {{path: org/pairs, column_mapping: {columns}}}\n"
    recipe = read(tmp_path, text + "params: {dpo_beta: 0.2}\n").recipe
    assert (recipe.train.method.name, recipe.train.method.beta) == ("dpo", 0.2)
    columns = "{text_column: sentence, target_column: mood}"
    text = f"task: text-classification\nbase_model: b\ndata: {{path: org/moods, column_mapping: {columns}}}\n"
    assert read(tmp_path, text).recipe.data.text_template == "{sentence}\nLabel: {mood}"


def test_a_folder_of_files_is_read_as_autotrain_does(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("train", "valid"):
        (tmp_path / "data" / f"{name}.csv").write_text("text\nhello\n")
    data = "data: {path: data, train_split: train, valid_split: valid, column_mapping: {text_column: text}}"
    recipe = read(tmp_path, f"task: llm-sft\nbase_model: b\n{data}\n").recipe
    assert Path(recipe.data.path).name == "train.csv" and Path(recipe.data.validation_path).name == "valid.csv"


@pytest.mark.parametrize(
    ("old", "new", "line", "why"),
    [
        ("llm-sft", "dreambooth", 1, "no training for `dreambooth`"),
        ("backend: local", "backend: spaces-a10g-large", 5, "not this machine"),
        ("log: tensorboard", "log: neptune", 4, "no tracker"),
        ("push_to_hub: false", "push_to_hub: true", 34, "send your model away"),
        ("chat_template: tokenizer", "chat_template: zephyr", 11, "foreign template"),
        ("optimizer: adamw_torch", "optimizer: paged_adamw_8bit", 25, "no translation"),
        ("padding: right", "paddle: right", 24, "not known"),
        ("peft: true", "peft: true\n  quantization: int8", 22, "few bits|trained on"),
        ("project_name", "projekt_name", 3, "not known"),
        ("text_column: messages", "text_column: messages\n    picture: png", 14, "not known"),
    ],
)
def test_what_cannot_be_translated_is_refused_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, why: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, SFT.replace(old, new))
    assert any(word in caught.value.why for word in why.split("|")), str(caught.value)
    assert caught.value.where["file"].endswith(f"autotrain.yaml:{line}"), str(caught.value)
    assert caught.value.hint


def test_a_recipe_is_taken_as_it_is_and_a_space_is_sent_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": "b"}\n')
    assert read(tmp_path, "data: rows.jsonl\n").kind == "recipe"
    with pytest.raises(RecipeError, match="a space to search") as caught:
        read(tmp_path, "search_space: {lr: {type: float, low: 1, high: 2}}\n")
    assert "luthier search" in caught.value.hint
