"""Every fenced block of the notes (EdgeAI 5.3, `olive_notes.md` beside this file): run, read, or refused by name.

Models and data sets are exchanged for a tiny model and small files, steps for a few; everything else is as it stands.
"""

import itertools
import json
import random
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.laws.source import ROOT

from luthier.core.errors import RecipeError
from luthier.core.yaml import parse_yaml
from luthier.jobs.doors.config import missing_packages, read_config
from luthier.jobs.doors.finetune import Finetune, finetune
from luthier.jobs.doors.rows import Rows
from luthier.jobs.search.read import check_against, read_space

NOTES = Path(__file__).with_name("olive_notes.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", NOTES, re.MULTILINE | re.DOTALL)
EXCHANGED = {
    "meta-llama/Llama-3.2-1B-Instruct": "base",
    "meta-llama/Meta-Llama-3-8B": "base",
    "microsoft/DialoGPT-medium": "base",
    "xxyyzzz/phrase_classification": "phrases.jsonl",
    "nampdn-ai/tiny-codes": "codes.jsonl",
    "path/to/your/dataset.json": "dataset.json",
    "train[:4096]": "train[:40]",
    "train[4096:4224]": "train[40:48]",
    "models/base": "base",
}
FEW = (
    "--set",
    "train.steps=2",
    "--set",
    "train.threads=1",
    "--set",
    "evaluate.max_rows=4",
    "--set",
    "evaluate.resamples=200",
)

# How each block is answered; the numbers are those in which the blocks stand in the notes.
SHELL = {0: "python -m venv", 1: "pip install", 2: "olive --help", 3: "mkdir"}
COMMANDS = {
    4: "finetune",
    5: "auto-opt",
    8: "run",
    9: "finetune",
    10: "generate-adapter",
    14: "finetune",
    16: "finetune",
}
FILES = {6: "json", 7: "olive-config.yaml", 11: "hyperparameter-search.yaml", 15: "passes", 17: "training_config"}
SCRIPTS = {12: "custom_loss.py", 13: "evaluation_script.py"}


def block(number: int) -> str:
    text = BLOCKS[number][1]
    for there, here in EXCHANGED.items():
        text = text.replace(there, here)
    return text


def commands(number: int) -> list[list[str]]:
    """Return the words of each of Olive's commands in a block, as a shell would hand them on."""
    lines = block(number).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("olive ")]


@dataclass
class Answer:
    out: str
    err: str
    error: RecipeError | None


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from luthier.model.tiny import save_tiny

    folder = tmp_path_factory.mktemp("notes")
    save_tiny(folder / "base", "llama")
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefgh", k=12)) for _ in range(60)]
    rows = {
        "phrases.jsonl": [{"phrase": word, "tone": "ab"[i % 2]} for i, word in enumerate(words)],
        "codes.jsonl": [{"programming_language": "c", "prompt": word, "response": word[::-1]} for word in words],
    }
    for name, lines in rows.items():
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "dataset.json").write_text(json.dumps([{"input": word, "output": word[::-1]} for word in words]))
    (folder / "olive-config.yaml").write_text(block(7))
    return folder


@pytest.fixture
def say(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Return what a command says in the folder of the notes."""
    monkeypatch.chdir(home)
    monkeypatch.setenv("LUTHIER_CACHE", str(home / "cache"))

    def said(*words: str) -> Answer:
        from luthier.cli.app import work

        monkeypatch.setattr(sys, "argv", ["luthier", *words])
        error = None
        try:
            work()
        except RecipeError as refused:
            error = refused
        out, err = capsys.readouterr()
        return Answer(out, err, error)

    return said


def test_every_block_is_answered() -> None:
    answered = SHELL | COMMANDS | FILES | SCRIPTS
    assert sorted(answered) == list(range(len(BLOCKS)))
    for number, words in answered.items():
        assert words in BLOCKS[number][1] or words == BLOCKS[number][0], f"block {number} is not of {words}"


def test_what_a_shell_does_is_done_by_installing(say) -> None:
    packages = ROOT / "pyproject.toml"
    assert 'name = "luthier"' in packages.read_text() and "Makefile" in {path.name for path in ROOT.iterdir()}
    shown = say("--help")
    assert all(command in shown.out for command in ("finetune", "auto-opt", "generate-adapter", "run", "search"))


def test_finetune_tunes_and_leaves_an_adapter_where_auto_opt_looks_for_it(say, home: Path) -> None:
    from luthier.jobs.doors.olive import AutoOpt, auto_opt
    from luthier.model.adapter import load_tuned

    (words,) = commands(4)
    answer = say(*words, *FEW)
    assert answer.error is None, answer.error
    assert "never runs here" in answer.err and "as a recipe:" in answer.err
    recipe = parse_yaml((home / "models/llama/ft/recipe.yaml").read_text(), name="recipe").value
    assert recipe["data"]["text_template"].startswith("<|start_header_id|>user<|end_header_id|>\n{phrase}")
    (words,) = commands(5)
    named = dict(zip(words[1::2], words[2::2], strict=False))
    wanted = auto_opt(AutoOpt(named["--model_name_or_path"], Path("onnx"), adapter=named["--adapter_path"]))
    assert load_tuned(Path(wanted.base), Path(wanted.adapters[0])).peft_config["default"].peft_type == "LORA"


def test_rows_of_the_notes_are_read(tmp_path: Path) -> None:
    from luthier.data.opened import open_data
    from luthier.data.spec import DataSpec

    (tmp_path / "rows.json").write_text(block(6))
    opened = open_data(DataSpec(path=str(tmp_path / "rows.json"), text_template="User: {input}\nAssistant: {output}"))
    first, second = opened.examples("train")
    assert first.segments[0].text == "User: What is machine learning?\nAssistant: "
    assert second.segments[1].text.startswith("Neural networks are")


def test_the_workflow_file_is_translated(home: Path, tmp_path: Path) -> None:
    file = home / "olive-config.yaml"
    assert read_config(file).recipe.train.adapter.modules_to_save == ("ln_f", "lm_head")
    (tmp_path / "rest.yaml").write_text(re.sub(r".*modules_to_save.*\n", "", file.read_text()))
    found = read_config(tmp_path / "rest.yaml")
    recipe, adapter = found.recipe, found.recipe.train.adapter
    assert (adapter.name, adapter.r, adapter.alpha, adapter.target_modules) == ("lora", 16, 32, ("c_attn", "c_proj"))
    assert (
        recipe.data.path.endswith("dataset.json") and recipe.data.text_template == "User: {input}\nAssistant: {output}"
    )
    assert found.kind == "Olive" and missing_packages(recipe) == []


def test_setup_says_what_is_missing_and_runs_nothing(say, home: Path) -> None:
    (home / "short.yaml").write_text(re.sub(r".*modules_to_save.*\n", "", block(7)))
    (words,) = commands(8)
    answer = say(*[word.replace("olive-config", "short") for word in words])
    assert answer.error is None and "every package that this needs is installed" in answer.err
    assert say("run", "--config", "short.yaml", "--list_required_packages").out == ""
    assert not (home / "runs").exists()


def test_setup_does_not_pass_over_a_diagnosis(say, home: Path) -> None:
    (home / "own.yaml").write_text("data: dataset.json\n")
    error = say("run", "own.yaml", "--setup", "--apply", "some-run").error
    assert error is not None and error.where["option"] == "--apply" and error.hint


def test_qlora_tunes(say, home: Path) -> None:
    (words,) = commands(9)
    assert say(*words, *FEW).error is None
    assert (home / "adapters/tiny-codes/adapter/adapter_config.json").exists()
    recipe = finetune(asked_by(words)).recipe
    assert recipe.train.adapter.name == "qlora"
    assert recipe.data.path.endswith("codes.jsonl[:40]") and recipe.data.validation_path.endswith("codes.jsonl[40:48]")
    assert (recipe.train.batch_size, recipe.train.steps) == (16, 150)
    assert recipe.data.text_template.startswith("### Language: {programming_language} \n### Question: {prompt}")


def asked_by(words: list[str]) -> Finetune:
    """Return what a command asks for, without running it."""
    named = dict(zip(words[1::2], words[2::2], strict=True))
    names = ("--data_name", "--train_split", "--eval_split", "--text_template")
    data, train, held_out, template = (named.get(name) for name in names)
    rows = Rows(files=(data,), train=train, held_out=held_out, template=template)
    training = {name.removeprefix("--"): int(value) for name, value in named.items() if value.isdigit()}
    return Finetune(model="base", method=named["--method"], rows=rows, training=training)


def test_zeros_on_the_command_line_are_values(say, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zero is no missing value: each of these reaches the recipe, or is refused by name."""
    made = []
    monkeypatch.setattr("luthier.cli.translated.run_translated", lambda translated, *_, **__: made.append(translated))
    words = ("finetune", "--data_files", "phrases.jsonl", "--text_template", "{phrase} {tone}")
    zeros = ("--warmup_ratio", "0", "--seed", "0", "--weight_decay", "0", "--max_grad_norm", "0", "--lora_dropout", "0")
    assert say(*words, *zeros).error is None
    recipe = made[0].recipe
    assert (recipe.seed, recipe.train.warmup, recipe.train.max_grad_norm) == (0, 0, 0)
    assert say(*words, "--max_steps", "0").error.where["option"] == "--max_steps"


def test_the_memory_efficient_command_names_no_data(say) -> None:
    (words,) = commands(16)
    refused = say(*words).error
    told = f"{refused.what} {refused.where}"
    assert "data_name" in told and "method" not in told


def test_commands_that_name_no_data_are_refused_by_name(say) -> None:
    for number in (10, 14):
        for words in commands(number):
            if words[0] == "finetune":
                answer = say(*words)
                assert answer.error is not None and answer.error.where["option"] == "--data_name"
                assert "no data is named" in answer.error.why and answer.error.hint


def test_generate_adapter_takes_the_adapters_that_finetune_would_leave() -> None:
    from luthier.jobs.doors.olive import generate_adapter

    words = commands(10)[-1]
    named = dict(zip(words[1::2], words[2::2], strict=True))
    wanted = generate_adapter(named["--base_model_path"], named["--adapter_paths"], Path(named["--output_path"]))
    assert wanted.base == "base" and wanted.adapters == ("adapters/classifier", "adapters/generator")


def test_the_search_file_is_read_as_it_is(home: Path, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(BLOCKS[11][1])
    (tmp_path / "recipe.yaml").write_text(f"data: {home / 'dataset.json'}\n")
    read, space = read_space(tmp_path / "space.yaml")
    check_against(read, space, tmp_path / "recipe.yaml", ())
    assert space.dimensions[0].range.low == 1e-6 and space.trials == 20


def test_the_loss_of_the_notes_trains_as_it_stands(say, home: Path) -> None:
    from luthier.core.files import sha256_of

    draw = random.Random(1)
    texts = [" ".join("".join(draw.choices("abcdefgh", k=9)) for _ in range(4)) for _ in range(60)]
    rows = [{"sentence1": a, "sentence2": b, "label": i % 2} for i, (a, b) in enumerate(itertools.pairwise(texts))]
    (home / "paired.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (home / "custom_loss.py").write_text(BLOCKS[12][1])
    method = "{name: embed, loss: custom_loss.py:CustomContrastiveLoss}"
    recipe = f"base_model: base\ndata: paired.jsonl\ntrain: {{method: {method}, batch_size: 8, learning_rate: 1e-3}}\n"
    (home / "custom.yaml").write_text(recipe + "export: []\n")
    answer = say("run", "custom.yaml", "--out", "custom", *FEW)
    assert answer.error is None, answer.error
    plan = parse_yaml((home / "custom/plan.yaml").read_text(), name="plan").value
    assert plan["train"]["method"]["loss"]["sha256"] == sha256_of(home / "custom_loss.py")
    assert (home / "custom/train/loss/custom_loss.py").read_text() == BLOCKS[12][1]
    said = json.loads(say("predict", "custom", "--text", "abc abc").out)
    assert len(said["vector"]) == 32


def test_the_evaluation_script_asks_for_what_is_measured() -> None:
    from typing import get_args

    from luthier.score.names import AnswerMetric, LossMetric

    asked = re.search(r'metric_type="(\w+)"', BLOCKS[13][1])[1]
    assert asked in get_args(AnswerMetric) and "perplexity" in get_args(LossMetric)


@pytest.mark.parametrize("number", [15, 17])
def test_parts_of_a_workflow_file_are_translated_within_one(number: int, home: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.yaml"
    alone.write_text(BLOCKS[number][1])
    with pytest.raises(RecipeError, match="`data_configs` cannot be translated"):
        read_config(alone)
    whole = re.sub(r"passes:.*", "", (home / "olive-config.yaml").read_text(), flags=re.DOTALL)
    (tmp_path / "whole.yaml").write_text(whole + BLOCKS[number][1])
    found = read_config(tmp_path / "whole.yaml")
    train = found.recipe.train
    if number == 15:
        assert (train.adapter.r, train.adapter.alpha, train.adapter.dropout) == (16, 16, 0.1)
        assert train.weight_decay == 0.01
    else:
        said = " ".join(found.remarks)
        assert train.schedule.name == "cosine" and train.precision == "auto"
        assert all(f"training_config.{name}" in said for name in ("fp16", "dataloader_num_workers", "optim"))
