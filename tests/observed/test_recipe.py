"""Every field of a recipe is seen in what a run of a tiny model leaves in its folder."""

import itertools
import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from tests.cli.tiny_run import make_tiny
from tests.observed.seen import Cases, unseen

from luthier.core.runfolder import RunFolder
from luthier.jobs.pipeline import run_recipe
from luthier.model.tiny import tiny_model
from luthier.recipe import Recipe

TRAIN = {"steps": 2, "batch_size": 4, "adapter": {"name": "lora", "r": 2}, "threads": 1, "precision": "fp32"}
TRAIN |= {"compile": False, "learning_rate": 1e-2, "micro_batch_tokens": 4096, "gradient_checkpointing": False}
CASES: Cases = {
    Recipe: {
        "base_model": "other",
        "data": {"path": "others.jsonl"},
        "train": TRAIN | {"steps": 3},
        "evaluate": {"resamples": 200, "max_rows": 2, "baselines": []},
        "export": ("adapter",),
        "trackers": ("tensorboard",),
        "seed": 8,
        "seeds": 2,
    }
}


def test_every_field_of_a_recipe_is_seen_in_its_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(make_tiny(tmp_path))
    rows = Path("rows.jsonl").read_text().splitlines(keepends=True)
    Path("others.jsonl").write_text("".join(rows[:40]))
    tiny_model("llama", seed=5).save_pretrained("other")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        Path("other", name).write_bytes(Path("base", name).read_bytes())
    number = itertools.count()

    def left_by(recipe: Recipe) -> dict[str, Any]:
        run = RunFolder(tmp_path / f"run{next(number)}")
        run_recipe(recipe, run)
        return {
            "files": sorted({place_of(path, run.path) for path in run.path.rglob("*")}),
            "weights": {name: tensor.tolist() for name, tensor in weights_in(run).items()},
            "rows": json.loads((run.room("data") / "card.json").read_text())["rows"],
        }

    usual = {"base_model": "base", "data": {"path": "rows.jsonl"}, "train": TRAIN, "evaluate": None}
    assert unseen(Recipe, CASES[Recipe], left_by, **usual, export=(), trackers=()) == []


def place_of(path: Path, run: Path) -> str:
    """Return where a file lies in its run; a tracker's own files have the time in their names."""
    return "/".join(path.relative_to(run).parts[:3]).partition("events.out")[0]


def weights_in(run: RunFolder) -> dict[str, Any]:
    return load_file(next((run.room("train") / "weights").glob("*.safetensors")))
