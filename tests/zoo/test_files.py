"""Malicious files: nothing of them runs, nothing outside their folder is opened, each is refused by name, in time."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from tests.zoo import animals
from tests.zoo.conftest import Visit, Zoo

from luthier.model.tiny import save_tiny

SECONDS = 2.0
GROWTH = 256 << 20
IN_CI = ("tensors without end", "a text without end", "dimensions that overflow")
ODD_SWITCHES = (
    *("null", "true", "false", "'true'", "1", "{}", "[]", "'org/repo'", "~", "yes"),
    *("'None'", "''"),
)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def good(folder: Path) -> Path:
    return save_tiny(folder / "model", "llama")


def expect_harmless(visit: Visit, folder: Path, zoo: Zoo, canary: Path) -> None:
    """Check that no canary ran and nothing outside was opened, started or called."""
    assert not canary.exists(), "a canary ran"
    beside = [path for path in visit.paths() if path.startswith(str(folder / "outside"))]
    assert not beside and not visit.outside(folder, zoo.folder), "a file outside was opened"
    assert not visit.foreign_processes() and not visit.connections()


def expect_refused(visit: Visit, words: str, seconds: float = SECONDS) -> None:
    """Check that a visit ended in one of our own errors, in time and within its memory."""
    assert visit.refused, f"nothing was refused: {visit.said}"
    assert "UNFORESEEN" not in visit.text and words in visit.text, visit.text
    assert min(visit.seconds, visit.wall_seconds) <= seconds and visit.wall_seconds <= 60, visit.seconds
    assert visit.growth_bytes <= GROWTH, visit.growth_bytes


def check_model(zoo: Zoo, folder: Path, canary: Path, name: str) -> None:
    make, words = animals.MODELS[name]
    model = good(folder)
    make(model, canary)
    visit = zoo.visit("load_model", folder=str(model))
    expect_harmless(visit, folder, zoo, canary)
    if words is None:
        assert visit.said == "LlamaForCausalLM", visit.text
    else:
        expect_refused(visit, words)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pt", "pth", "pickle called safetensors"])
def test_cve_2025_46567_2025_53002_weights_that_are_pickles(zoo: Zoo, tmp_path: Path, canary: Path, name: str) -> None:
    check_model(zoo, tmp_path, canary, name)


@pytest.mark.parametrize("name", ["pkl", "pytorch_model.bin"])
def test_cve_2023_6730_2024_3568_pickles_in_a_model(zoo: Zoo, tmp_path: Path, canary: Path, name: str) -> None:
    check_model(zoo, tmp_path, canary, name)


def test_cve_2026_37572_a_lightning_checkpoint(zoo: Zoo, tmp_path: Path, canary: Path) -> None:
    check_model(zoo, tmp_path, canary, "ckpt")


def test_cve_2025_32434_2026_24747_2026_4538_a_pickle_is_not_even_opened(
    zoo: Zoo, tmp_path: Path, canary: Path
) -> None:
    model = good(tmp_path)
    names = ("pytorch_model.bin", "model.pt", "model.pt2", "training_args.bin", "optimizer.pt", "scheduler.pt")
    for name in names:
        (model / name).write_bytes(animals.pickled(canary))
    visit = zoo.visit("load_model", folder=str(model))
    assert visit.said == "LlamaForCausalLM"
    expect_harmless(visit, tmp_path, zoo, canary)
    assert not [path for path in visit.paths() if path.endswith(names)]


def test_cve_2025_1716_2025_1889_2025_713xx_a_name_does_not_make_a_format(
    zoo: Zoo, tmp_path: Path, canary: Path
) -> None:
    for number, head in enumerate((b"", b"PK\x03\x04", b"\x00" * 8, b"\x08" + b"\x00" * 7, b"\x93NUMPY")):
        model = good(tmp_path / str(number))
        (model / "model.safetensors").write_bytes(head + animals.pickled(canary))
        visit = zoo.visit("load_model", folder=str(model))
        expect_harmless(visit, tmp_path, zoo, canary)
        expect_refused(visit, "cannot be loaded")


@pytest.mark.parametrize("name", ["config of an unknown kind with code", "quantiser", "own generation code"])
def test_cve_2026_58116_a_model_that_brings_code(zoo: Zoo, tmp_path: Path, canary: Path, name: str) -> None:
    check_model(zoo, tmp_path, canary, name)


@pytest.mark.parametrize("value", ODD_SWITCHES)
def test_cve_2026_86169_a_switch_that_is_none(zoo: Zoo, tmp_path: Path, value: str) -> None:
    for number, place in enumerate(("{}", "train: {{{}}}", "data: {{path: a.jsonl, {}}}", "base_model: {{{}}}")):
        path = tmp_path / f"{number}.yaml"
        key = "trust_remote_code"
        path.write_text("data: a.jsonl\n" * ("data" not in place) + place.format(f"{key}: {value}") + "\n")
        assert isinstance(yaml.safe_load(path.read_text()), dict)
        expect_refused(zoo.visit("recipe", path=str(path)), "error: ")


@pytest.mark.parametrize("name", [name for name in animals.MODELS if "private" in name or "kernel" in name])
def test_cve_2026_4372_a_private_switch_that_fetches_code(zoo: Zoo, tmp_path: Path, canary: Path, name: str) -> None:
    check_model(zoo, tmp_path, canary, name)


NEMOTRON = [name for name in animals.MODELS if "code" in name]


@pytest.mark.parametrize("name", NEMOTRON)
def test_cve_2026_27893_nemotron_auto_map_runs_though_forbidden(
    zoo: Zoo, tmp_path: Path, canary: Path, name: str
) -> None:
    check_model(zoo, tmp_path, canary, name)


@pytest.mark.parametrize("name", animals.ADAPTERS)
def test_cve_2026_27893_adapters_with_code_or_pickles(zoo: Zoo, tmp_path: Path, canary: Path, name: str) -> None:
    from luthier.model.adapters.lora import LoraSpec
    from luthier.model.load import load_model

    base, folder = good(tmp_path), tmp_path / "adapter"
    tuner = LoraSpec().build()
    tuner.save(tuner.attach(load_model(base), seed=0), folder, base_model="model")
    make, words = animals.ADAPTERS[name]
    make(folder, canary)
    visit = zoo.visit("tuned", base=str(base), folder=str(folder))
    expect_harmless(visit, tmp_path, zoo, canary)
    if words:
        expect_refused(visit, words)
    else:
        assert visit.said, visit.text


OTHERS = ("header", "tensor", "index", "config that", "tokenizer that")


@pytest.mark.parametrize("name", [name for name in animals.MODELS if name.startswith(OTHERS)])
def test_va_26_233_01_and_cve_2025_51480_2026_27489_2026_34446_2026_34447_files_that_point_outside(
    zoo: Zoo, tmp_path: Path, canary: Path, name: str
) -> None:
    check_model(zoo, tmp_path, canary, name)


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx_data", "model.zip", "model.tar.gz", "model.7z", "model.h5"])
def test_files_of_other_formats_are_no_models_and_no_data(zoo: Zoo, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x08\x07\x12")
    for visit in (
        zoo.visit("load_model", folder=str(tmp_path / name)),
        zoo.visit("data_rows", path=str(tmp_path / name)),
    ):
        expect_refused(visit, name)
        assert str(tmp_path / name) not in visit.paths()


def test_cve_2026_1839_a_pickle_in_a_checkpoint_is_not_opened_on_resume(zoo: Zoo, tmp_path: Path, canary: Path) -> None:
    import torch

    from luthier.train.checkpoint import Progress, save
    from luthier.train.optimizers.optimizer import Optimizer
    from luthier.train.spec import TrainSpec

    optimizer = Optimizer({"weight": torch.nn.Parameter(torch.zeros(1))}, TrainSpec(learning_rate=0.1))
    path = save(tmp_path, Progress(identity="x", threads=1), weights={}, optimizer=optimizer, others={}, keep=1)
    names = ("rng_state.pth", "optimizer.pt", "rng.bin", ".metadata")
    for name in names:
        (path / name).write_bytes(animals.pickled(canary))
    visit = zoo.visit("newest_checkpoint", folder=str(tmp_path))
    assert visit.said == path.name, visit.text
    expect_harmless(visit, tmp_path, zoo, canary)
    assert not [opened for opened in visit.paths() if opened.endswith(names)]
    # A random state that is a pickle by content does not match the manifest, and the checkpoint is none.
    (path / "rng.safetensors").write_bytes(animals.pickled(canary))
    assert zoo.visit("newest_checkpoint", folder=str(tmp_path)).said is None and not canary.exists()


@pytest.mark.parametrize("name", animals.LOOPS)
def test_cve_2026_115911_2026_115918_a_template_without_end(zoo: Zoo, name: str) -> None:
    visit = zoo.visit("rendered", source=animals.LOOPS[name])
    # The child's own start, about 1 s, is part of the time: in the service it is there already.
    expect_refused(visit, "chat template", seconds=SECONDS + 3)
    assert not visit.foreign_processes()


@pytest.mark.parametrize("name", animals.ESCAPES)
def test_cve_2024_34359_a_template_out_of_its_sandbox(zoo: Zoo, tmp_path: Path, canary: Path, name: str) -> None:
    visit = zoo.visit("rendered", source=animals.ESCAPES[name].replace("CANARY", str(canary)))
    shown = visit.said or ""
    assert not any(word in shown for word in ("<class", "root:", "<function", "<module", "builtins")), shown
    expect_harmless(visit, tmp_path, zoo, canary)
    if visit.refused:
        assert "UNFORESEEN" not in visit.text, visit.text


@pytest.mark.parametrize(
    "name",
    # A child of its own reads each, and takes seconds to begin.
    [pytest.param(name, marks=() if name in IN_CI else pytest.mark.proof) for name in animals.GGUFS],
)
def test_cve_2024_21802_2024_23605_2025_53630_2026_27940_2026_33298_absurd_gguf(
    zoo: Zoo, tmp_path: Path, canary: Path, name: str
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(animals.GGUFS[name])
    visit = zoo.visit("resolve", name=str(path))
    # A child of its own reads the file; what counts is how long it took once its libraries were there.
    expect_refused(visit, "cannot be used", seconds=60)
    assert float(visit.text.rpartition("after ")[2].split()[0]) <= SECONDS + 3, visit.text
    expect_harmless(visit, tmp_path, zoo, canary)


def test_cve_2024_21802_a_gguf_brings_no_template_out_of_the_sandbox(zoo: Zoo, tmp_path: Path, canary: Path) -> None:
    from tests.model.test_base import write_gguf

    write_gguf(tmp_path / "model.gguf", chat_template=animals.ESCAPES["init"].replace("CANARY", str(canary)))
    visit = zoo.visit("resolve", name=str(tmp_path / "model.gguf"))
    expect_harmless(visit, tmp_path, zoo, canary)
    assert "UNFORESEEN" not in visit.text


def test_d2_bombs_as_data_stay_within_their_bounds(zoo: Zoo, tmp_path: Path) -> None:
    packed = animals.gzip_bomb(tmp_path / "bomb.jsonl.gz")
    table = animals.parquet_bomb(tmp_path / "bomb.parquet")
    assert max(packed.stat().st_size, table.stat().st_size) < 5_000_000
    for path in (packed, table):
        expect_refused(zoo.visit("data_rows", path=str(path)), "unpacks to suspiciously much")
    (tmp_path / "deep.jsonl").write_bytes(b"\n".join([b"[" * 1_000_000, b'{"a":' * 1_000_000]))
    expect_refused(zoo.visit("data_rows", path=str(tmp_path / "deep.jsonl")), "nested too deeply")
    (tmp_path / "bomb.yaml").write_text(animals.yaml_bomb())
    expect_refused(zoo.visit("recipe", path=str(tmp_path / "bomb.yaml")), "anchors and aliases")


def test_d2_many_keys_and_one_of_them_twice(zoo: Zoo, tmp_path: Path) -> None:
    keys = [f'"{number}": 1' for number in range(20_000)]
    (tmp_path / "keys.json").write_text("{" + ", ".join([*keys, '"19999": 2']) + "}")
    expect_refused(zoo.visit("strict", path=str(tmp_path / "keys.json")), "stands twice")


def test_a_folder_that_is_model_and_adapter_at_once_loads_only_itself(zoo: Zoo, tmp_path: Path, canary: Path) -> None:
    model, out = good(tmp_path), animals.outside(tmp_path / "x")
    shutil.copytree(model, out / "base")
    (out / "base" / "pytorch_model.bin").write_bytes(animals.pickled(canary))
    config = {"peft_type": "LORA", "base_model_name_or_path": str(out / "base"), "r": 4, "target_modules": ["q_proj"]}
    (model / "adapter_config.json").write_text(json.dumps(config))
    (model / "adapter_model.bin").write_bytes(animals.pickled(canary))
    visit = zoo.visit("load_model", folder=str(model))
    expect_harmless(visit, tmp_path, zoo, canary)
    assert "UNFORESEEN" not in visit.text
