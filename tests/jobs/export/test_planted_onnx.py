"""Five planted defects in an ONNX export, each named by its certificate; and `auto`, which measures its way up."""

import json
import shutil
from pathlib import Path

import onnx
import pytest
from onnx.external_data_helper import convert_model_to_external_data
from tests.export.wide import save_lora, save_wide

from luthier.export.formats.onnx import build
from luthier.export.manifest import read_manifest
from luthier.export.spec import Form
from luthier.jobs.export import auto
from luthier.jobs.export import export as flow
from luthier.jobs.export.door import Wanted, export_wanted
from luthier.jobs.export.export import ExportFailedError
from luthier.jobs.export.source import source_of_folder
from luthier.model.base import resolve_base


def quiet(event) -> None:
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    """A base, its adapter, and the fp32 ONNX form of both, built once."""
    home = tmp_path_factory.mktemp("planted")
    base = save_wide(home / "base")
    adapter = save_lora(base, home / "adapter", seed=1)
    wanted = Wanted(forms=(Form(name="merged"),), base=str(base), adapters=(str(adapter),), out=home / "out")
    merged = export_wanted(wanted, quiet).exported[0].folder
    folder = home / "onnx"
    folder.mkdir()
    build(Form(name="onnx"), merged, folder)
    other = source_of_folder(resolve_base(str(base), quiet), save_lora(base, home / "other", seed=9))
    flow.export_forms(other, [Form(name="onnx")], home / "out-other", quiet)
    return home, base, adapter, folder


def change_template(folder: Path, home: Path) -> None:
    for path in (folder / "chat_template.jinja", folder / "tokenizer_config.json"):
        path.write_text(path.read_text().replace("You are tiny.", "You are small."))


def remove_end(folder: Path, home: Path) -> None:
    path = folder / "genai_config.json"
    told = json.loads(path.read_text())
    told["model"]["eos_token_id"] = 270
    path.write_text(json.dumps(told))


def wrong_adapter(folder: Path, home: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(home / "out-other" / "onnx", folder)


def disturb_a_layer(folder: Path, home: Path) -> None:
    model = onnx.load(str(folder / "model.onnx"))
    for tensor in model.graph.initializer:
        if "layers.1." in tensor.name and len(tensor.dims) == 2:
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * 1.01, tensor.name))
    for path in folder.glob("model.onnx*"):
        path.unlink()
    convert_model_to_external_data(model, location="model.onnx.data", size_threshold=0)
    onnx.save(model, str(folder / "model.onnx"))


def double_bos(folder: Path, home: Path) -> None:
    """The tokenizer puts a token before each text that the template has written already."""
    path = folder / "tokenizer.json"
    told = json.loads(path.read_text())
    start = next(token for token in told["added_tokens"] if token["content"] == "<|im_start|>")
    told["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [start["id"]], "tokens": ["<|im_start|>"]}},
    }
    path.write_text(json.dumps(told))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"bos_token": "<|im_start|>", "add_bos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("defect", "reason"),
    [
        (lambda folder, home: None, None),
        (change_template, "its chat template is another"),
        (
            remove_end,
            "`<|im_end|>` (272), with which the tuned model ends its answers, does not end them",
        ),
        (wrong_adapter, "the tuning is missing, or another's: "),
        (disturb_a_layer, "its weights are not the tuned model's: "),
        (double_bos, "its tokenizer puts `<|im_start|>` before "),
    ],
)
def test_a_planted_defect_is_named(defect, reason, made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, base, adapter, folder = made

    def planted(form: Form, source, merged, out: Path) -> None:
        shutil.copytree(folder, out, dirs_exist_ok=True)
        defect(out, home)

    source = source_of_folder(resolve_base(str(base), quiet), adapter)
    monkeypatch.setattr(flow, "build", planted)
    exported = flow.export_forms(source, [Form(name="onnx")], tmp_path / "out", quiet)
    certificate = exported[0].certificates["model"]
    if reason is None:
        assert certificate.result == "passed", certificate
        return
    assert certificate.result == "failed" and certificate.reasons[0].startswith(reason), certificate.reasons
    with pytest.raises(ExportFailedError):
        flow.refuse_failed(exported)


def test_auto_goes_up_until_a_form_passes(made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, base, adapter, _ = made
    source = source_of_folder(resolve_base(str(base), quiet), adapter)
    groups = [[Form(name="onnx-int4")], [Form(name="onnx-int8")], [Form(name="onnx"), Form(name="merged")]]
    monkeypatch.setattr(auto, "_groups", lambda *_: iter(groups))
    found = auto.export_smallest(source, None, tmp_path / "out", quiet, max_drop=0.0)
    tried = {one.format: one.certificate.result for one in found["tried"]}
    assert tried["onnx-int4"] == "failed" and "passed" in tried.values()
    best = found["exported"][0]
    assert best.certificates["model"].result == "passed" and read_manifest(best.folder).format == best.format
    assert best.format in found["chosen"] and {path.name for path in (tmp_path / "out").iterdir()} == {best.format}


def test_auto_with_nothing_that_passes_says_what_was_measured(made, tmp_path: Path, monkeypatch) -> None:
    _, base, adapter, _ = made
    source = source_of_folder(resolve_base(str(base), quiet), adapter)
    monkeypatch.setattr(auto, "_groups", lambda *_: iter([[Form(name="onnx-int4")]]))
    with pytest.raises(ExportFailedError, match="no form stays within the drop") as caught:
        auto.export_smallest(source, None, tmp_path / "out", quiet, max_drop=0.0)
    assert "onnx-int4: " in caught.value.why and list((tmp_path / "out").iterdir()) == []
