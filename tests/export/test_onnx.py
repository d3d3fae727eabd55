"""ONNX exports, run in ONNX Runtime GenAI, say what transformers and PEFT say."""

import json
from pathlib import Path

import pytest
import torch
from tests.export.wide import KINDS, expected, save_lora, save_wide

from luthier.core.errors import ModelError, RecipeError
from luthier.export.formats.onnx import build, build_with_adapters, known_architectures
from luthier.export.spec import Form
from luthier.model.load import load_tokenizer
from luthier.serve.engines.onnx import OnnxEngine
from luthier.serve.spec import ServeSpec

PROMPT, ANSWER = [5, 9, 12, 40], [7, 8, 200, 100]
CLOSE = 1e-4


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_wide(tmp_path_factory.mktemp("wide") / "base")


def said(folder: Path, adapter: Path | None = None) -> torch.Tensor:
    engine = OnnxEngine(folder, ServeSpec(threads=1))
    try:
        return torch.from_numpy(engine.chances(PROMPT, ANSWER, adapter))
    finally:
        engine.close()


def built(base: Path, folder: Path, **form) -> Path:
    folder.mkdir()
    build(Form(**form), base, folder)
    return folder


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def error(base: Path, folder: Path) -> float:
    return float((said(folder) - expected(base, None, PROMPT, ANSWER)).abs().mean())


@pytest.mark.parametrize("family", KINDS)
def test_the_model_says_what_transformers_says(family: str, tmp_path: Path) -> None:
    base = save_wide(tmp_path / "base", family)
    folder = built(base, tmp_path / "onnx", name="onnx")
    assert torch.allclose(said(folder), expected(base, None, PROMPT, ANSWER), atol=CLOSE)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json"):
        assert (folder / name).read_bytes() == (base / name).read_bytes()


def test_more_bits_are_nearer_and_larger(base: Path, tmp_path: Path) -> None:
    int4, wider, int8 = (
        built(base, tmp_path / title, name=name, wider=parts)
        for title, name, parts in (("4", "onnx-int4", ()), ("4w", "onnx-int4", ("0", "head")), ("8", "onnx-int8", ()))
    )
    assert error(base, int4) > error(base, wider) > error(base, int8) > 0
    assert size(int4) < size(wider) < size(int8)


@pytest.mark.parametrize("heads", [4, 3])
def test_tied_embeddings_are_read_from_the_output_layer_in_8_bits(heads: int, tmp_path: Path) -> None:
    shape = {"hidden_size": 16 * heads, "num_attention_heads": heads, "num_key_value_heads": 1}
    tied = save_wide(tmp_path / "tied", **shape)
    untied = save_wide(tmp_path / "untied", tie_word_embeddings=False, **shape)
    table = 16 * heads * len(load_tokenizer(tied))
    for name, wider, spared in (("onnx-int8", (), 3.9), ("onnx-int4", ("head",), 0.5)):
        once, twice = (built(base, tmp_path / f"{name}-{base.name}", name=name, wider=wider) for base in (tied, untied))
        assert size(twice) - size(once) > spared * table
        assert error(tied, once) < 3 * error(untied, twice)


@pytest.mark.parametrize("part", ["2", "first", "-1"])
def test_parts_that_the_model_lacks_are_refused(part: str, base: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=f"no part `{part}`") as caught:
        built(base, tmp_path / "out", name="onnx-int4", wider=(part,))
    assert "from 0 to 1, or `head`" in caught.value.hint


def test_an_unknown_architecture_is_named(base: Path, tmp_path: Path) -> None:
    other = save_wide(tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"architectures": ["GPT2LMHeadModel"]}))
    with pytest.raises(ModelError, match="does not know `GPT2LMHeadModel`") as caught:
        built(other, tmp_path / "out", name="onnx")
    assert "Llama" in caught.value.hint and "LlamaForCausalLM" in known_architectures()


def test_a_build_that_fails_says_why(base: Path, tmp_path: Path) -> None:
    broken = save_wide(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be built") as caught:
        built(broken, tmp_path / "out", name="onnx")
    assert caught.value.why and "Traceback" not in caught.value.why


@pytest.mark.parametrize("name", ["onnx", "onnx-int4"])
def test_adapters_are_switched_and_none_is_the_base(name: str, base: Path, tmp_path: Path) -> None:
    adapters = {
        "all": save_lora(base, tmp_path / "all", seed=1),
        "some": save_lora(base, tmp_path / "some", seed=2, r=8, target_modules=["q_proj", "v_proj"], use_rslora=True),
    }
    folder, plain = tmp_path / "out", built(base, tmp_path / "plain", name=name)
    folder.mkdir()
    build_with_adapters(Form(name=name), base, adapters, folder)
    engine = OnnxEngine(folder, ServeSpec(threads=1))
    try:
        for which in (None, "all", "some", None, "all"):
            file = folder / "adapters" / f"{which}.onnx_adapter" if which else None
            chances = torch.from_numpy(engine.chances(PROMPT, ANSWER, file))
            if name == "onnx":
                assert torch.allclose(chances, expected(base, adapters.get(which), PROMPT, ANSWER), atol=CLOSE)
            elif which is None:
                assert torch.equal(chances, said(plain))
            else:
                assert not torch.allclose(chances, said(plain), atol=1.0)
        assert engine.stats().adapters == 2
    finally:
        engine.close()


def kept(folder: Path, **changes) -> Path:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"peft_type": "IA3"}, "it is IA3"),
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "whole layers"),
        ({"bias": "all"}, "biases"),
        ({"rank_pattern": {"q_proj": 2}}, "ranks by layer"),
    ],
)
def test_adapters_that_cannot_be_switched_are_refused(changes, why: str, base: Path, tmp_path: Path) -> None:
    adapter = kept(save_lora(base, tmp_path / "adapter", seed=1), **changes)
    with pytest.raises(ModelError) as caught:
        build_with_adapters(Form(name="onnx"), base, {"a": adapter}, tmp_path / "out")
    assert why in caught.value.why


def test_an_adapter_of_a_rounded_base_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = save_lora(base, tmp_path / "adapter", seed=1)
    (adapter / "rounded_base.json").write_text("{}")
    with pytest.raises(ModelError) as caught:
        build_with_adapters(Form(name="onnx"), base, {"a": adapter}, tmp_path / "out")
    assert "rounded to 4 bits" in caught.value.why and "merged" in caught.value.hint


def test_an_adapter_for_another_base_is_refused(base: Path, tmp_path: Path) -> None:
    wider = save_wide(tmp_path / "wider", intermediate_size=192)
    deeper = save_wide(tmp_path / "deeper", num_hidden_layers=3)
    for other, why in ((wider, "64 by 192, the base's matrix 64 by 128"), (deeper, "no matrix for layer 2")):
        adapter = save_lora(other, tmp_path / f"{other.name}-adapter", seed=1)
        out = tmp_path / f"{other.name}-out"
        out.mkdir()
        with pytest.raises(ModelError, match="for another base") as caught:
            build_with_adapters(Form(name="onnx"), base, {"a": adapter}, out)
        assert why in caught.value.why
