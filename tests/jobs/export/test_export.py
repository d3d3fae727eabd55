"""Every form of a run's model, its certificate, and what is left where it fails."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file, save_file
from tests.jobs.export.made import export, logits, trained
from transformers import AutoModelForCausalLM

from luthier.core.artifacts import Exports
from luthier.core.errors import CheckpointError, RecipeError, ResourceError
from luthier.core.files import sha256_of
from luthier.examples.example import Message
from luthier.export.manifest import check_files, read_manifest
from luthier.export.spec import Form
from luthier.jobs.export import export as flow
from luthier.jobs.export.export import ExportFailedError, Terms, export_forms
from luthier.jobs.export.opened import open_export
from luthier.jobs.export.source import Most, source_of_run
from luthier.model.adapter import load_tuned
from luthier.model.adapters.full import FullSpec
from luthier.model.adapters.lora import LoraSpec
from luthier.model.generate import generate
from luthier.model.load import load_model, load_tokenizer
from luthier.model.template import Template
from luthier.model.tiny import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_the_merged_model_says_what_the_tuned_one_says(family: str, tmp_path: Path) -> None:
    given = trained(tmp_path, family, LoraSpec(r=4))
    exported = export(given, tmp_path / "export", "merged").exported[0]
    merged = AutoModelForCausalLM.from_pretrained(exported.folder, dtype=torch.float32).eval()
    tuned = load_tuned(given.prepared.base.folder, given.weights)
    assert torch.allclose(logits(merged), logits(tuned), atol=1e-4)
    assert not torch.allclose(logits(merged), logits(load_model(given.prepared.base.folder)), atol=1e-2)
    certificate = exported.certificates["model"]
    assert certificate.result == "passed" and certificate.reasons == ()
    assert str(certificate.answers) == str(certificate.rendered) == str(certificate.ids) == "2 of 2"
    assert certificate.divergence.mean < 1e-6 < certificate.divergence.base_mean
    assert read_manifest(exported.folder).certificates == exported.certificates


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


def change_template(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text().replace("You are tiny.", "You are small."))


def remove_end(folder: Path) -> None:
    path = folder / "generation_config.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in told.items() if key != "eos_token_id"}))


def other_adapter(folder: Path) -> None:
    """The weights of the base, moved another way."""
    tensors = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(9)
    for name, tensor in tensors.items():
        if "proj" in name:
            tensors[name] = tensor + 0.05 * torch.randn(tensor.shape, generator=generator)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def disturb_a_layer(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    for name in tensors:
        if ".layers.1." in name:
            tensors[name] = tensors[name] * 1.01
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def double_bos(folder: Path) -> None:
    path = folder / "tokenizer.json"
    told = json.loads(path.read_text())
    start = next(token for token in told["added_tokens"] if token["content"] == "<|im_start|>")
    told["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [start["id"]], "tokens": ["<|im_start|>"]}},
    }
    path.write_text(json.dumps(told))


def planted(given, out: Path, defect, monkeypatch) -> ExportFailedError:
    """Let an export of the merged form be damaged just after it is built."""
    build = flow.build

    def damaged(form: Form, source, merged, folder: Path) -> None:
        build(form, source, merged, folder)
        for path in folder.iterdir():
            # The files are links to those that the other forms are built from.
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)
        defect(folder)

    monkeypatch.setattr(flow, "build", damaged)
    with pytest.raises(ExportFailedError) as caught:
        export(given, out, "merged")
    return caught.value


@pytest.mark.parametrize(
    ("defect", "reason"),
    [
        (change_template, "its chat template is another"),
        (remove_end, "`<|im_end|>` (272), which ends an answer, is not among the ends that its generation_config.json"),
        (other_adapter, "the tuning is missing, or another's"),
        (disturb_a_layer, "its weights are not the tuned model's"),
        (double_bos, "its tokenizer puts `<|im_start|>` before each text; in training it was nothing"),
    ],
)
def test_a_planted_defect_is_named(defect, reason, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = trained(tmp_path, "llama", LoraSpec(r=4))
    error = planted(given, tmp_path / "export", defect, monkeypatch)
    assert error.why.startswith(reason), error.why
    aside = tmp_path / "export" / "failed" / "merged"
    assert read_manifest(aside).certificates["model"].result == "failed"
    assert not (tmp_path / "export" / "merged").exists() and Exports.read(tmp_path / "export") is None


def test_the_first_prompt_that_differs_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = trained(tmp_path, "llama", LoraSpec(r=4))
    error = planted(given, tmp_path / "export", change_template, monkeypatch)
    assert "the rendered prompt" in error.why and "You are tiny." in error.why and "You are small." in error.why


def test_what_failed_is_exported_only_when_a_person_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = trained(tmp_path, "llama", LoraSpec(r=4))
    planted(given, tmp_path / "export", disturb_a_layer, monkeypatch)
    source = source_of_run(given, None, lambda event: None, prompts=Most(8))
    terms = Terms(allow_failed=True)
    made = export_forms(source, [Form(name="merged")], tmp_path / "export", lambda event: None, terms=terms)
    manifest = read_manifest(made[0].folder)
    assert made[0].folder == tmp_path / "export" / "merged" and manifest.allowed_failed
    assert manifest.certificates["model"].result == "failed" and not (tmp_path / "export/failed/merged").exists()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), "`model.safetensors` was changed"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "`tokenizer.json` is missing"),
        (lambda folder: (folder / "added_tokens.json").write_text("{}"), "`added_tokens.json` was added"),
    ],
)
def test_a_changed_export_is_not_loaded(change, why: str, tmp_path: Path) -> None:
    folder = export(trained(tmp_path, "llama", LoraSpec(r=4)), tmp_path / "export", "merged").exported[0].folder
    check_files(folder, read_manifest(folder))
    change(folder)
    with pytest.raises(CheckpointError, match="not what was certified") as caught:
        open_export(folder)
    assert why in caught.value.why


def test_an_opened_export_answers_as_the_tuned_model(tmp_path: Path) -> None:
    given = trained(tmp_path, "llama", LoraSpec(r=4))
    for exported in export(given, tmp_path / "export", "merged", "adapter", "bundle").exported:
        opened = open_export(exported.folder)
        try:
            said = opened.engine.chances(list(range(20)), [3, 4], opened.adapter())
        finally:
            opened.engine.close()
        tuned = load_tuned(given.prepared.base.folder, given.weights)
        expected = tuned(input_ids=torch.tensor([[*range(20), 3, 4]])).logits[0, -3:].log_softmax(dim=-1)
        assert torch.allclose(torch.from_numpy(said), expected, atol=1e-4)


def test_a_bundle_has_what_another_machine_needs(tmp_path: Path) -> None:
    given = trained(tmp_path, "llama", LoraSpec(r=4))
    folder = export(given, tmp_path / "export", "bundle").exported[0].folder
    names = {path.name for path in folder.iterdir()}
    assert names == {"model", "run.py", "requirements.txt", "Dockerfile", "LICENCE.md", "README.md", "manifest.json"}
    asked = subprocess.run([sys.executable, folder / "run.py", "say 1"], capture_output=True, text=True, check=True)
    tuned, template = load_tuned(given.prepared.base.folder, given.weights), Template(load_tokenizer(folder / "model"))
    ids = template.messages_ids([Message(role="user", content="say 1")])
    # As many tokens as the example asks for; the tokenizer's own clean-up of spaces is not what is compared.
    expected = generate(tuned, template, [ids], max_new_tokens=256)[0].text
    assert "".join(asked.stdout.split()) == "".join(expected.split())
    assert "`mit`" in (folder / "LICENCE.md").read_text()


def test_an_interrupted_export_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    given = trained(tmp_path, "llama", LoraSpec(r=4))
    monkeypatch.setattr(flow, "certify", interrupted)
    with pytest.raises(KeyboardInterrupt):
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
