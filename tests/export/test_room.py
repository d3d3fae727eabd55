import json
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM

from luthier.core.artifacts import Base, Exports, Prepared, Trained
from luthier.core.errors import LuthierError, RecipeError, ResourceError
from luthier.core.files import sha256_of
from luthier.examples.example import Example, Message
from luthier.examples.store import write_split
from luthier.export.room import run
from luthier.model.adapter import load_tuned
from luthier.model.adapters.full import FullSpec
from luthier.model.adapters.lora import LoraSpec
from luthier.model.load import load_model, load_tokenizer
from luthier.model.template import Template
from luthier.model.tiny import FAMILIES, save_tiny

ROWS = tuple(
    Example(messages=(Message(role="user", content=f"say {i}"), Message(role="assistant", content="yes")))
    for i in range(5)
)


def trained(folder: Path, family: str, spec: LoraSpec | FullSpec) -> Trained:
    """Return a tiny model whose trained weights were pushed away from where they start."""
    base = Base(name="tiny", folder=save_tiny(folder / "base", family), weights_sha256="b", licence="mit")
    adapter = spec.build()
    model = adapter.attach(load_model(base.folder), seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in (w for w in model.parameters() if w.requires_grad):
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    (folder / "train" / "weights").mkdir(parents=True)
    adapter.save(model, folder / "train" / "weights", base_model=str(base.folder))
    return Trained(
        folder=folder / "train",
        prepared=prepared(folder / "data", base),
        adapter=spec.name,
        steps=1,
        best_step=1,
        train_loss=1.0,
        trainable_parameters=1,
        total_parameters=2,
        tokens_per_second=1.0,
    )


def prepared(folder: Path, base: Base) -> Prepared:
    template = Template(load_tokenizer(base.folder))
    (folder / "examples").mkdir(parents=True)
    for name, rows in (("train", ROWS), ("validation", ()), ("test", ROWS[:2])):
        write_split(folder / "examples" / f"{name}.arrow", ((template.encode(row), row) for row in rows))
    return Prepared(
        folder=folder,
        base=base,
        format="chat",
        rows={"train": 5, "validation": 0, "test": 2},
        target_tokens=10,
        total_tokens=50,
        longest=20,
        answer_kind="free",
        data_sha256="d",
        context_tokens=512,
    )


def export(given: Trained, out: Path, *names: str) -> Exports:
    return run(names, given, out, lambda event: None, card="# A card\n")


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.arange(20)[None]).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_the_merged_model_says_what_the_tuned_one_says(family: str, tmp_path: Path) -> None:
    given = trained(tmp_path, family, LoraSpec(r=4))
    exported = export(given, tmp_path / "export", "merged").exported[0]
    merged = AutoModelForCausalLM.from_pretrained(exported.folder, dtype=torch.float32).eval()
    tuned = load_tuned(given.prepared.base.folder, given.weights)
    assert torch.allclose(logits(merged), logits(tuned), atol=1e-4)
    assert not torch.allclose(logits(merged), logits(load_model(given.prepared.base.folder)), atol=1e-2)
    proof = json.loads((exported.folder / "manifest.json").read_text())["proof"]
    assert proof["greedy_tokens_equal"] and proof["largest_logit_difference"] < 1e-4 and proof["prompts"] == 2


def test_every_file_is_hashed_and_the_card_lies_beside_the_weights(tmp_path: Path) -> None:
    given = trained(tmp_path, "llama", LoraSpec(r=4))
    exports = export(given, tmp_path / "export", "merged", "adapter")
    for exported in exports.exported:
        files = {path.name: sha256_of(path) for path in exported.folder.iterdir() if path.name != "manifest.json"}
        assert exported.files == files and (exported.folder / "README.md").read_text() == "# A card\n"
    assert Exports.read(tmp_path / "export") == exports
    assert str(tmp_path) not in (tmp_path / "export" / "merged" / "manifest.json").read_text()


def test_the_tokenizer_is_the_base_models_own(tmp_path: Path) -> None:
    given = trained(tmp_path, "llama", LoraSpec(r=4))
    folder = export(given, tmp_path / "export", "merged").exported[0].folder
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (folder / name).read_bytes() == (given.prepared.base.folder / name).read_bytes()


def test_peft_loads_the_adapter(tmp_path: Path) -> None:
    given = trained(tmp_path, "llama", LoraSpec(r=4))
    folder = export(given, tmp_path / "export", "adapter").exported[0].folder
    loaded = AutoPeftModelForCausalLM.from_pretrained(folder)
    assert torch.allclose(logits(loaded), logits(load_tuned(given.prepared.base.folder, given.weights)), atol=1e-5)


def test_fully_tuned_weights(tmp_path: Path) -> None:
    given = trained(tmp_path, "llama", FullSpec())
    merged = load_model(export(given, tmp_path / "export", "merged").exported[0].folder)
    assert torch.equal(logits(merged), logits(load_model(given.weights)))
    with pytest.raises(RecipeError, match="no adapter to export"):
        export(given, tmp_path / "other", "adapter")


def test_an_export_that_says_something_else_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = trained(tmp_path, "llama", LoraSpec(r=4))
    base = given.prepared.base.folder
    monkeypatch.setattr("luthier.export.formats.merged.merge", lambda tuned: load_model(base))
    with pytest.raises(LuthierError, match="does not say the same"):
        export(given, tmp_path / "export", "merged")
    assert list((tmp_path / "export").iterdir()) == []


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    given = trained(tmp_path, "llama", LoraSpec(r=4))
    monkeypatch.setattr("luthier.export.formats.merged.write_model", full)
    with pytest.raises(ResourceError, match="disk is full"):
        export(given, tmp_path / "export", "merged")
    assert list((tmp_path / "export").iterdir()) == []
