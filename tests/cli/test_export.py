"""`luthier export`, `bench`, `chat`, `evaluate`, `auto-opt` and `generate-adapter`, as a person types them."""

import json
import re
from pathlib import Path

import openai
import pytest
from tests.cli.serving import serving
from tests.cli.tiny_run import luthier
from tests.export.wide import save_lora, save_wide


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a model whose widths ONNX takes, and two adapters of the same base."""
    home = tmp_path_factory.mktemp("home")
    base = save_wide(home / "base")
    for seed, name in enumerate(("first", "second")):
        save_lora(base, home / name, seed=seed)
    rows = [{"prompt": f"say {number}", "completion": ("yes", "no")[number % 2]} for number in range(60)]
    (home / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (home / "recipe.yaml").write_text(
        f"base_model: {base}\ndata: rows.jsonl\ntrain: {{steps: 4, learning_rate: 0.01}}\nexport: []\n"
    )
    done = luthier(home, "run", "recipe.yaml", "--out", "runs/one")
    assert done.returncode == 0, done.stderr
    return home


def test_a_run_is_exported_timed_measured_and_talked_to(home: Path) -> None:
    made = luthier(home, "export", "runs/one", "--to", "merged,onnx", "--json")
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    assert [one["format"] for one in told["exported"]] == ["merged", "onnx"]
    assert all(one["certificates"]["model"]["result"] == "passed" for one in told["exported"])

    sizes = ("--rounds", "1", "--prompt-tokens", "40", "--answer-tokens", "9", "--threads", "1")
    timed = luthier(home, "bench", "runs/one/export/merged", "runs/one/export/onnx", *sizes, "--json")
    assert timed.returncode == 0, timed.stderr
    told = json.loads(timed.stdout)
    rows = told["rows"]
    assert (told["rounds"], told["prompt_tokens"], told["answer_tokens"]) == (1, 40, 9)
    assert [row["name"] for row in rows] == ["merged", "onnx"]
    assert all(row["answer_tokens_per_second"] > 0 and row["memory_bytes"] > 0 and not row["error"] for row in rows)

    measured = luthier(home, "evaluate", "runs/one/export/onnx", "--json")
    assert measured.returncode == 0, measured.stderr
    report = json.loads(measured.stdout)
    assert {"tuned", "onnx"} <= {system["name"] for system in report["systems"]} and "onnx reaches" in report[
        "conclusion"
    ]
    assert (home / "runs/one/evaluate/onnx/report.html").exists()

    of_run, of_export = (
        luthier(home, "chat", name, "--once", "say 3").stdout for name in ("runs/one", "runs/one/export/onnx")
    )
    assert of_run == of_export


def test_an_unknown_form_is_guessed(home: Path) -> None:
    refused = luthier(home, "export", "runs/one", "--to", "onnx-int5")
    assert refused.returncode == 2 and "did you mean `onnx-int" in refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--to", "merged"), "name a run, or a base model"),
        (("runs/one", "--to", "merged", "--block-size", "64"), "`merged` has no option `block_size`"),
        (("runs/one", "--to", "auto,merged"), "chooses the form"),
        (("runs/one", "--to", "onnx-int4", "--block-size", "33"), "cannot be taken"),
        (("runs/one", "--to", "onnx", "--adapters", "first"), "`--adapters` go with `--base`"),
        (("--base", "base", "--adapters", "first,second", "--to", "gguf"), "does not switch between adapters"),
    ],
)
def test_wrong_options_are_explained(options: tuple[str, ...], what: str, home: Path) -> None:
    refused = luthier(home, "export", *options)
    assert refused.returncode == 2 and what in refused.stderr and "Traceback" not in refused.stderr


def test_olives_commands_write_one_model_with_adapters(home: Path) -> None:
    named = ("--base_model_path", "base", "--adapter-paths", "first,second", "--output_path", "both")
    made = luthier(home, "generate-adapter", *named, "--trust_remote_code")
    assert made.returncode == 0, made.stderr
    assert "the same as: luthier export --base base --adapters first,second --to onnx --out both" in made.stderr
    assert "never runs here" in made.stderr
    folder = home / "both" / "onnx-adapters"
    certificates = json.loads((folder / "manifest.json").read_text())["certificates"]
    results = {name: one["result"] for name, one in certificates.items()}
    assert results == dict.fromkeys(("base", "first", "second"), "passed")
    said = [luthier(home, "chat", str(folder), "--once", "hi", *more).stdout for more in ((), ("--adapter", "first"))]
    assert said[0] != said[1]
    unknown = luthier(home, "chat", str(folder), "--adapter", "third", "--once", "hi")
    assert unknown.returncode == 2 and "it has first, second" in unknown.stderr


def test_an_unknown_option_of_auto_opt_is_guessed(home: Path) -> None:
    refused = luthier(home, "auto-opt", "--model_name", "base", "--output_path", "x")
    assert refused.returncode == 2 and re.search(r"did you mean `--model[_-]name[_-]or[_-]path`", refused.stderr)


def test_an_export_is_served_under_its_name(home: Path) -> None:
    made = luthier(home, "export", "runs/one", "--to", "onnx", "--prompts", "3", "--out", "served", "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["exported"][0]["certificates"]["model"]["prompts"] == "3 held-out prompts"
    with serving(home, "--model", "one=served/onnx", "--engine", "onnx") as server:
        client = openai.OpenAI(base_url=server.address(), api_key=server.first_key(), max_retries=0)
        assert "one" in [model.id for model in client.models.list()]
        message = [{"role": "user", "content": "say 3"}]
        said = client.chat.completions.create(model="one", messages=message, temperature=0, max_tokens=24)
        assert said.model == "one" and said.choices[0].message.content is not None
        # The base is no ONNX folder, and nothing else may run it.
        with pytest.raises(openai.APIStatusError, match="does not read this folder"):
            client.chat.completions.create(model="smollm2-135m-instruct", messages=message, max_tokens=2)
    once = luthier(home, "chat", "served/onnx", "--once", "say 3").stdout.rstrip("\n")
    assert once.startswith(said.choices[0].message.content)
