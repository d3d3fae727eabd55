"""What may be loaded, and the zoo of what is refused before it is opened."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from luthier.core.errors import ModelError
from luthier.model.checks import check_folder, weight_files
from luthier.model.load import context_length, load_model, load_tokenizer
from luthier.model.tiny import CONTEXT, save_tiny


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "model", "llama")


def set_config(folder: Path, file: str = "config.json", **values: Any) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def adapter(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')


def index(folder: Path, target: str) -> None:
    text = json.dumps({"weight_map": {"lm_head.weight": target}})
    (folder / "model.safetensors.index.json").write_text(text)


ZOO: dict[str, tuple[Callable[[Path], object], str]] = {
    "code of its own": (
        lambda f: set_config(f, model_type="alien", auto_map={"AutoModelForCausalLM": "modeling_alien.Alien"}),
        "needs code from its repository, which Luthier never runs",
    ),
    "unknown kind": (lambda f: set_config(f, model_type="alien"), "not known"),
    "CVE-2026-4372": (lambda f: set_config(f, _attn_implementation_internal="evil/kernels"), "must not have"),
    "the same, nested": (lambda f: set_config(f, text_config={"_attn_implementation": "a/b"}), "foreign code"),
    "kernels of a repository": (lambda f: set_config(f, attn_implementation="evil/kernels"), "foreign code"),
    "quantised": (lambda f: set_config(f, quantization_config={"quant_method": "gptq"}), "quantised"),
    "encoder-decoder": (
        lambda f: set_config(f, model_type="prophetnet", architectures=["ProphetNetForConditionalGeneration"]),
        "ProphetNetForConditionalGeneration",
    ),
    "classifier": (lambda f: set_config(f, architectures=["LlamaForSequenceClassification"]), "not a causal"),
    "pickle": (pickled, "not safetensors"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "missing"),
    "an index that leads out": (lambda f: index(f, "../model.safetensors"), "unsafe"),
    "an index to a pickle": (lambda f: index(f, "model.bin"), "unsafe"),
    "an empty index": (lambda f: (f / "model.safetensors.index.json").write_text('{"a": 1}'), "weight_map"),
    "adapter": (adapter, "holds an adapter"),
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "broken config": (lambda f: (f / "config.json").write_text("{"), "not JSON"),
    "deep config": (lambda f: (f / "config.json").write_text("[" * 100_000), "not JSON"),
    "list for config": (lambda f: (f / "config.json").write_text("[]"), "not a JSON object"),
    "binary config": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "not JSON"),
    "tokenizer with code": (
        lambda f: (
            set_config(f, "tokenizer_config.json", auto_map={"AutoTokenizer": ["t.T", None]}),
            (f / "tokenizer.json").unlink(),
        ),
        "tokenizer needs code",
    ),
}


@pytest.mark.parametrize(("change", "words"), ZOO.values(), ids=ZOO)
def test_the_zoo_is_refused_by_name_before_any_weight_is_read(
    change: Callable[[Path], object], words: str, folder: Path
) -> None:
    check_folder(folder)
    change(folder)
    if (folder / "model.safetensors").exists():
        (folder / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    assert words in str(caught.value)


def test_no_code_beside_the_model_runs(folder: Path, tmp_path: Path) -> None:
    code = f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n"
    (folder / "modeling_own.py").write_text(code)
    (folder / "tokenization_own.py").write_text(code)
    set_config(folder, auto_map={"AutoConfig": "modeling_own.C", "AutoModelForCausalLM": "modeling_own.M"})
    set_config(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_own.T", None]})
    assert type(load_model(folder)).__name__ == "LlamaForCausalLM"
    assert load_tokenizer(folder).encode("the") != []
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty"])
def test_damaged_weights_are_an_error_with_a_reason(folder: Path, damage: str) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "garbage": b"\xff" * 100, "empty": b""}[damage])
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    assert caught.value.why


def test_missing_and_misshapen_weights_are_never_filled_with_random_numbers(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = "model.layers.1.mlp.up_proj.weight"
    save_file({key: value for key, value in tensors.items() if key != name}, path, {"format": "pt"})
    with pytest.raises(ModelError, match="incomplete") as caught:
        load_model(folder)
    assert name in str(caught.value)
    save_file(tensors | {name: torch.zeros(3, 3)}, path, {"format": "pt"})
    with pytest.raises(ModelError):
        load_model(folder)


@pytest.mark.parametrize("content", ["{", "{}", '{"model": 3}', ""])
def test_a_broken_tokenizer_is_an_error_with_a_reason(folder: Path, content: str) -> None:
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match="tokenizer") as caught:
        load_tokenizer(folder)
    assert caught.value.why


def test_loading_is_quiet_and_gives_fp32_in_eval_mode(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({k: v.bfloat16() for k, v in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    model = load_model(folder)
    assert not model.training and {p.dtype for p in model.parameters()} == {torch.float32}
    assert capfd.readouterr() == ("", "")


def test_the_context_length_comes_from_the_model_not_from_the_tokenizer(folder: Path) -> None:
    set_config(folder, "tokenizer_config.json", model_max_length=10**30)
    assert context_length(folder) == load_tokenizer(folder).model_max_length == CONTEXT
    set_config(folder, max_position_embeddings=None)
    with pytest.raises(ModelError, match="context length"):
        context_length(folder)


def test_gpt2_and_models_with_a_text_part_say_their_context_length(tmp_path: Path) -> None:
    assert context_length(save_tiny(tmp_path / "gpt2", "gpt2")) == CONTEXT
    (tmp_path / "config.json").write_text('{"text_config": {"max_position_embeddings": 77}}')
    assert context_length(tmp_path) == 77


def test_sharded_weights_are_found_and_load(folder: Path) -> None:
    whole = load_model(folder)
    (folder / "model.safetensors").unlink()
    whole.save_pretrained(folder, max_shard_size="50KB")
    assert len(weight_files(folder)) > 1
    assert torch.equal(load_model(folder).lm_head.weight, whole.lm_head.weight)


def test_an_attention_that_the_config_names_gives_way_to_ours(folder: Path) -> None:
    set_config(folder, _attn_implementation="flash_attention_2")
    assert load_model(folder).config._attn_implementation == "sdpa"
