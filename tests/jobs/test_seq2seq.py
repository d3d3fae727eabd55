"""A tiny encoder-decoder by the command line: trained, measured, exported, asked again, resumed; others refuse it."""

import json
import random
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from luthier.cli.app import app
from luthier.core.errors import LuthierError, ModelError, RecipeError
from luthier.core.events import Event
from luthier.core.files import sha256_of
from luthier.core.runfolder import RunFolder
from luthier.evaluate.baselines.read_off import lead
from luthier.jobs.diagnose.desk import diagnose_run
from luthier.jobs.looking import check_data, first_recipe, preview_data
from luthier.jobs.pipeline import run_recipe
from luthier.model.tiny import save_tiny, save_tiny_seq2seq
from luthier.recipe_io.read import recipe_from
from luthier.serve.engines.open import open_engine
from luthier.serve.spec import ServeSpec

RECIPE = """\
base_model: base
data: {path: rows.jsonl, text_template: "shorten: {document}\\n{summary}"}
train:
  {method: seq2seq, adapter: {name: lora, r: 4}, steps: 6, batch_size: 8, learning_rate: 1e-2, threads: 1,
   precision: fp32, micro_batch_tokens: 800, gradient_checkpointing: false, checkpoint_every: 3, validate_every: 3}
evaluate: {resamples: 200, max_new_tokens: 8}
export: [merged, adapter]
trackers: []
"""
ignore = list[Event]().append


def luthier(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def refused(*words: str) -> str:
    """Return the error that a command ends with."""
    error = luthier(*words).exception
    assert isinstance(error, LuthierError), error
    return str(error)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made, draw = tmp_path_factory.mktemp("seq2seq"), random.Random(2)
    save_tiny_seq2seq(made / "base", "t5")
    rows = []
    for _ in range(50):
        words = ["".join(draw.choices("abcdefg", k=draw.randint(1, 4))) for _ in range(draw.randint(4, 9))]
        text = f"{' '.join(words)}. Then {words[0]} went on."
        rows.append({"document": text, "summary": " ".join(words[: draw.randint(1, 3)])})
    (made / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (made / "recipe.yaml").write_text(RECIPE)
    return made


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LUTHIER_CACHE", str(folder / "cache"))
    return folder


@pytest.fixture
def run(here: Path) -> Path:
    """Return the folder of the tiny recipe's run, which is done once."""
    if not (here / "one").exists():
        said = luthier("run", "recipe.yaml", "--out", "one")
        assert said.exit_code == 0, said.exception
        (here / "said.txt").write_text(said.stdout)
    return here / "one"


def test_from_rows_to_answers(run: Path) -> None:
    again = luthier("run", "recipe.yaml", "--out", "one")
    assert again.exit_code == 0 and "ask it: luthier predict" in again.stdout
    report = json.loads((run / "evaluate" / "report.json").read_text())
    systems = {system["name"]: system["metrics"] for system in report["systems"]}
    assert list(systems) == ["zero-shot", "lead", "copy", "tuned"] and report["primary_metric"] == "rouge_l"
    assert {"rouge_l", "chrf", "bleu", "exact_match", "perplexity"} <= systems["tuned"].keys()
    assert "perplexity" not in systems["copy"] and systems["copy"]["rouge_l"]["value"] > 0
    assert systems["tuned"]["perplexity"]["value"] < systems["zero-shot"]["perplexity"]["value"]
    rivals = {(one["b"], one["metric"]) for one in report["comparisons"]}
    assert {("lead", "rouge_l"), ("copy", "bleu"), ("zero-shot", "perplexity")} <= rivals

    exports = json.loads((run / "export" / "artifact.json").read_text())["exported"]
    assert [one["certificates"]["model"]["result"] for one in exports] == ["passed", "passed"]
    assert "AutoModelForSeq2SeqLM" in (run / "README.md").read_text()

    # What predict writes for the bare documents is what the evaluation was answered for their trained sources.
    said = luthier("predict", str(run), "rows.jsonl")
    answers = [json.loads(line)["answer"] for line in said.stdout.splitlines()]
    samples = [json.loads(line) for line in (run / "evaluate" / "samples.jsonl").read_text().splitlines()]
    assert len(answers) == 50 and samples
    for sample in samples:
        number = int(sample["row"].split(":")[1])
        assert answers[number - 1] == sample["answers"]["tuned"]["text"]
        assert sample["prompt"].startswith("shorten: ") and "\n" not in sample["prompt"]
    (one,) = json.loads(luthier("predict", str(run), "--text", "abc d. Then", "--json").stdout)
    assert one["answer"] in luthier("predict", str(run), "--text", "shorten: abc d. Then").stdout


def test_the_merged_folder_stands_alone(run: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    merged = run / "export" / "merged"
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(merged), AutoTokenizer.from_pretrained(merged)
    ids = tokenizer("shorten: abc d. Then", return_tensors="pt").input_ids
    said = tokenizer.decode(model.generate(ids, max_new_tokens=8)[0], skip_special_tokens=True)
    assert said == luthier("predict", str(run), "--text", "abc d. Then").stdout.removesuffix("\n")
    with pytest.raises(ModelError, match="cannot be chatted with or served"):
        open_engine("transformers", merged, ServeSpec())


def test_resumed_and_measured_again(run: Path) -> None:
    again = run.with_name("again")
    shutil.copytree(run, again)
    for part in ("train/weights", "train/checkpoints/step-00000006", "evaluate", "export"):
        shutil.rmtree(again / part)
    (again / "train" / "artifact.json").unlink()
    manifest = json.loads((again / "manifest.json").read_text())
    (again / "manifest.json").write_text(json.dumps(manifest | {"finished_at": None}))
    assert "unfinished run" in refused("run", "recipe.yaml", "--out", "again")
    said = luthier("run", "recipe.yaml", "--out", "again", "--resume")
    assert said.exit_code == 0, said.exception
    weights = "train/weights/adapter_model.safetensors"
    assert sha256_of(again / weights) == sha256_of(run / weights)
    said = luthier("evaluate", "again", "--set", "evaluate.baselines=[lead]", "--set", "evaluate.max_rows=2", "--json")
    report = json.loads(said.stdout)
    assert [system["name"] for system in report["systems"]] == ["lead", "tuned"] and report["test_rows"] == 2


def test_what_goes_on_with_a_text_refuses_it_by_name(run: Path) -> None:
    assert "this run cannot chat" in refused("chat", str(run)) and "luthier predict" in refused("chat", str(run))
    assert "cannot be exported as `onnx`" in refused("export", str(run), "--to", "onnx")
    assert "cannot be exported by itself" in refused("export", "--base", "base", "--to", "merged")
    for command in ("estimate", "advise"):
        words = ("recipe.yaml",) if command == "estimate" else ("rows.jsonl", "--set", "train.method=seq2seq")
        assert f"`luthier {command}` does not know encoder-decoders" in refused(command, *words)
    diagnosis = diagnose_run(RunFolder(run))
    assert "template-mismatch" in diagnosis.healthy, "its two sides are rendered again as they were trained"


def test_a_base_is_met_before_any_method_is_named(here: Path) -> None:
    bare = recipe_from({"base_model": "base", "data": {"path": "rows.jsonl", "text_template": "{document} {summary}"}})
    assert check_data(bare, ignore).answer_kind == "free"
    shown = preview_data(bare, ignore, rows=1)[0]
    assert [piece.target for piece in shown.pieces] == [False, True] and shown.pieces[1].text.endswith("</s>")
    assert "name: seq2seq" in first_recipe(bare, here / "new.yaml", ignore)
    with pytest.raises(ModelError, match="`sft` cannot tune an encoder-decoder"):
        run_recipe(bare, RunFolder(here / "sft"))
    save_tiny(here / "llama", "llama")
    causal = recipe_from({"base_model": "llama", "data": bare.data.model_dump(), "train": {"method": "seq2seq"}})
    with pytest.raises(ModelError, match="`seq2seq` needs an encoder-decoder"):
        run_recipe(causal, RunFolder(here / "causal"))


def test_rows_longer_than_the_limit_are_listed_or_cut(here: Path) -> None:
    data = {"path": "rows.jsonl", "text_template": "shorten: {document}\n{summary}", "max_tokens": 40}
    dropped, cut = (
        check_data(recipe_from({"base_model": "base", "data": data | {"too_long": what}}), ignore)
        for what in ("drop", "cut")
    )
    left_out = [issue for issue in dropped.dropped if issue.code == "too_long"]
    assert left_out and [(one.file, one.row) for one in cut.cut] == [(one.file, one.row) for one in left_out]


def test_lead_keeps_whole_sentences() -> None:
    text = "One two three. Four five! \u516d\u4e03\u3002 Eight."
    first, second = "One two three.", "One two three. Four five!"
    assert [lead(text, words) for words in (1, 3, 5, 99)] == [first, first, second, text]


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ({"data": {"path": "x", "render": "chat"}}, "data.render"),
        ({"train": {"method": "seq2seq", "fast_step": True}}, "train.fast_step"),
        ({"train": {"method": "seq2seq", "compile": True}}, "train.compile"),
        ({"train": {"method": "seq2seq", "neftune_noise_alpha": 5.0}}, "train.neftune_noise_alpha"),
        ({"train": {"method": "seq2seq", "layer_decay": 0.9}}, "train.layer_decay"),
        ({"train": {"method": "seq2seq", "adapter": "ia3"}}, "train.adapter"),
        ({"evaluate": {"shots": 3}}, "evaluate.shots"),
        ({"evaluate": {"harness": ["arc_easy"]}}, "evaluate.harness"),
        ({"evaluate": {"baselines": ["few-shot"]}}, "evaluate.baselines"),
        ({"evaluate": {"metrics": ["log_loss"]}}, "evaluate.metrics"),
        ({"export": ["gguf-q8_0"]}, "export"),
        ({"train": {"method": "sft"}, "data": {"path": "x", "render": "source"}}, "data.render"),
        ({"train": {"method": "sft"}, "evaluate": {"baselines": ["copy"]}}, "evaluate.baselines"),
        ({"train": {"method": "classify"}, "evaluate": {"baselines": ["lead"]}}, "evaluate.baselines"),
    ],
)
def test_what_contradicts_it_is_refused_when_the_recipe_is_read(parts: dict[str, object], field: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_from({"data": "rows.jsonl", "export": [], "train": {"method": "seq2seq"}} | parts)
    assert field in str(caught.value)
