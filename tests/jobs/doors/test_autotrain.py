import importlib.util
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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

OLIVE = """\
input_model: {type: HfModel, model_path: org/base, task: text-generation}
data_configs:
- name: rows
  type: HuggingfaceContainer
  load_dataset_config: {data_name: json, data_files: rows.json, split: train, eval_split: "train[:4]"}
  pre_process_data_config: {text_template: "{input} {output}", max_seq_len: null}
passes:
  tune:
    type: LoRA
    r: 8
    target_modules: [q_proj]
    training_args: {optim: adamw_torch, lr_scheduler_type: cosine, report_to: none, fp16: true, max_steps: 5}
output_dir: out
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
        ("text_column: messages", "text_column: messages\n    target_column: mood", 14, "does not use it"),
        ("padding: right", "add_eos_token: false", 24, "never learns to end"),
        ("optimizer: adamw_torch", "optimizer: [adamw_torch]", 25, "no text"),
        ("train_split: train", "train_split: 1", 9, "no text"),
        ("  column_mapping:\n    text_column: messages", "  column_mapping: text", 12, "no block"),
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


def test_setup_names_packages_of_trackers_and_optimisers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = importlib.util.find_spec
    absent = ("wandb", "bitsandbytes")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else here(name))
    text = SFT.replace("log: tensorboard", "log: wandb").replace("adamw_torch", "adamw_bnb_8bit")
    assert missing_packages(read(tmp_path, text).recipe) == ["wandb", "bitsandbytes"]


def test_olives_passes_are_the_adapters_they_name(tmp_path: Path) -> None:
    found = read(tmp_path, OLIVE.replace("LoRA", "DoRA")).recipe.train.adapter
    assert (found.name, found.dora) == ("lora", True)
    with pytest.raises(RecipeError, match="no adapter `loha` here"):
        read(tmp_path, OLIVE.replace("LoRA", "LoHa"))


WRONG = st.none() | st.booleans() | st.integers() | st.lists(st.integers(), max_size=2) | st.just({"a": [1]})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.sampled_from((SFT, OLIVE)), wrong=WRONG, data=st.data())
def test_a_value_of_a_wrong_type_is_an_error_and_no_traceback(tmp_path: Path, text: str, wrong, data) -> None:
    value = yaml.safe_load(text)
    *blocks, last = data.draw(st.sampled_from(list(places(value))))
    inside = value
    for block in blocks:
        inside = inside[block]
    inside[last] = wrong
    try:
        assert read(tmp_path, json.dumps(value)).recipe
    except RecipeError as error:
        assert error.what and error.where


def places(value, before: tuple = ()):
    """Yield the way to every value in a file, and to every block."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*before, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*before, key))
