"""A GGUF file says what its source says, and what llama.cpp would say differently is refused by name."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from tests.serve.made import Offline, ask, greedy, prompt, save_model, spec
from tokenizers import Regex, pre_tokenizers, processors
from transformers import AutoModelForCausalLM

from luthier.core.errors import ModelError
from luthier.export.formats.gguf import build
from luthier.export.spec import ExportName, Form
from luthier.jobs.export.diverging import divergence
from luthier.model.load import load_tokenizer
from luthier.model.tiny import tiny_tokenizer

FAMILIES = ("llama", "qwen2", "qwen3", "gemma3", "phi3", "gpt2", "mistral")
BY_TABLE = ("gemma3", "gpt2")
"""llama.cpp computes their activation by a table in 16 bits."""
TEXTS = ("the hen's 1234 eggs,\n\n  it said  ", "Zürich 😀 <|im_end|>\nfoo", "<|im_start|>user\na<|im_end|>")
TALK = [{"role": "user", "content": "the hen"}]
BOS = "<|endoftext|>"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Offline]:
    """Return a family's model with what it says by transformers."""
    known: dict[str, Offline] = {}

    def of(family: str) -> Offline:
        if family not in known:
            known[family] = Offline(save_model(tmp_path_factory.mktemp(family) / "base", family))
        return known[family]

    return of


def written(base: Path, out: Path, form: ExportName = "gguf") -> Path:
    build(Form(name=form), base, out)
    return out


@contextlib.contextmanager
def engine_of(folder: Path) -> Iterator["LlamaCppEngine"]:  # noqa: F821
    pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
    from luthier.serve.engines.llama_cpp import LlamaCppEngine

    engine = LlamaCppEngine(folder, spec(rows=1))
    try:
        yield engine
    finally:
        engine.close()


def diverges(made: Offline, folder: Path) -> float:
    """Return the mean divergence along the source's own answer."""
    ids = prompt(30)
    said = made.greedy(ids, 8)
    with engine_of(folder) as engine:
        return divergence([made.logprobs(ids, [*said, 0]).numpy()], [engine.chances(ids, said)]).mean


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_in_fp32_says_what_its_source_says(made, tmp_path: Path, family: str) -> None:
    source = made(family)
    # Of a model that slides a window, the file's context is the window's length.
    ids = prompt(8 if family == "mistral" else 40)
    said = source.greedy(ids, 7)
    with engine_of(written(source.base, tmp_path / "out")) as engine:
        assert ask(engine, ids, greedy(7)).wait().tokens == said
        found, expected = engine.chances(ids, said), source.logprobs(ids, [*said, 0]).numpy()
        assert np.abs(found - expected).max() < (1e-3 if family in BY_TABLE else 1e-5)
        assert divergence([expected], [found]).mean < (3e-8 if family in BY_TABLE else 1e-12)
        tokenizer = load_tokenizer(source.base)
        text = tokenizer.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True)
        assert engine.render(TALK) == text
        for one in (text, *TEXTS):
            assert engine.encode(one) == tokenizer.encode(one, add_special_tokens=False)
        assert tokenizer.eos_token_id in engine.stop_ids


# Qwen 3's head width is not read by transformers' loader.
@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3", "phi3", "mistral"])
def test_transformers_reads_the_file_back(made, tmp_path: Path, family: str) -> None:
    source, out = made(family), written(made(family).base, tmp_path / "out")
    read = AutoModelForCausalLM.from_pretrained(out, gguf_file="model.gguf", dtype=torch.float32).state_dict()
    kept = source.model().state_dict()
    assert set(kept) <= set(read) | {"lm_head.weight"}
    for name in set(kept) & set(read):
        assert torch.allclose(read[name], kept[name], atol=1e-6), name


def test_the_file_holds_tokens_template_and_stop_token(made, tmp_path: Path) -> None:
    out = written(made("gpt2").base, tmp_path / "out")
    fields = gguf.GGUFReader(out / "model.gguf").fields
    tokenizer = tiny_tokenizer()
    told = {name: field.contents() for name, field in fields.items()}
    assert told["tokenizer.chat_template"] == tokenizer.chat_template
    assert told["tokenizer.ggml.eos_token_id"] == tokenizer.eos_token_id
    assert told["tokenizer.ggml.tokens"] == tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert told["tokenizer.ggml.pre"] == "gpt-2"
    assert told["general.file_type"] == gguf.LlamaFileType.ALL_F32
    text = (out / "Modelfile").read_text()
    assert "FROM ./model.gguf" in text and 'PARAMETER stop "<|im_end|>"' in text


def test_more_bits_are_nearer_and_larger(made, tmp_path: Path) -> None:
    source = made("qwen2")
    outs = [written(source.base, tmp_path / form, form) for form in ("gguf", "gguf-q8_0", "gguf-q4_0")]
    exact, eight, four = (diverges(source, out) for out in outs)
    assert exact < 1e-12 < eight < four
    whole, less, least = ((out / "model.gguf").stat().st_size for out in outs)
    assert whole > less > least


def test_k_quants_are_near_where_rows_are_wide_enough(made, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp's quantiser is not installed")
    source = made("qwen2")
    out = written(source.base, tmp_path / "out", "gguf-q4_k_m")
    kinds = {tensor.tensor_type for tensor in gguf.GGUFReader(out / "model.gguf").tensors}
    # These rows are 32 and 64 wide: too narrow for blocks of 256.
    assert kinds == {gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.Q5_0, gguf.GGMLQuantizationType.Q8_0}
    assert diverges(source, out) < 0.1


def changed(base: Path, out: Path, change: Callable[["PreTrainedTokenizerFast"], None]) -> Path:  # noqa: F821
    """Copy a model with another tokenizer."""
    shutil.copytree(base, out)
    tokenizer = tiny_tokenizer()
    change(tokenizer)
    tokenizer.save_pretrained(out)
    return out


def with_bos(tokenizer, *, adds: bool, writes: bool) -> None:
    tokenizer.bos_token = BOS
    if adds:
        pair = (BOS, tokenizer.convert_tokens_to_ids(BOS))
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[pair]
        )
    if writes:
        tokenizer.chat_template = "{{- bos_token }}" + tokenizer.chat_template


@pytest.mark.parametrize("adds", [False, True])
def test_bos_stands_there_once(made, tmp_path: Path, adds: bool) -> None:
    base = changed(made("llama").base, tmp_path / "base", lambda one: with_bos(one, adds=adds, writes=True))
    tokenizer = load_tokenizer(base)
    expected = tokenizer.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True)
    with engine_of(written(base, tmp_path / "out")) as engine:
        assert engine.render(TALK) == expected
        ids = engine.encode(expected)
        assert ids == tokenizer.encode(expected, add_special_tokens=False)
        assert ids.count(tokenizer.bos_token_id) == 1


def test_a_bos_that_the_template_does_not_write_shows(made, tmp_path: Path) -> None:
    base = changed(made("llama").base, tmp_path / "base", lambda one: with_bos(one, adds=True, writes=False))
    tokenizer = load_tokenizer(base)
    expected = tokenizer.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True)
    with engine_of(written(base, tmp_path / "out")) as engine:
        assert engine.render(TALK) == expected
        plain = tokenizer.encode(expected, add_special_tokens=False)
        assert engine.encode(expected) == [tokenizer.bos_token_id, *plain]


def test_another_cut_of_text_is_refused_by_name(made, tmp_path: Path) -> None:
    def other(tokenizer) -> None:
        parts = [
            pre_tokenizers.Split(Regex("[xyz]+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)

    base = changed(made("llama").base, tmp_path / "base", other)
    with pytest.raises(ModelError, match="no rules for this tokenizer") as caught:
        written(base, tmp_path / "out")
    assert "[xyz]+" in caught.value.why
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "family, setting, value, named",
    [
        ("llama", "model_type", "bloom", "`bloom`"),
        ("llama", "hidden_act", "relu", "`relu`"),
        ("qwen2", "rope_parameters", {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}, "`dynamic`"),
        ("gpt2", "scale_attn_by_inverse_layer_idx", True, "GPT-2"),
        ("gemma3", "query_pre_attn_scalar", 100, "100"),
    ],
)
def test_what_llama_cpp_computes_otherwise_is_refused_by_name(
    made, tmp_path: Path, family, setting, value, named
) -> None:
    base = tmp_path / "base"
    shutil.copytree(made(family).base, base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {setting: value}))
    with pytest.raises(ModelError) as caught:
        written(base, tmp_path / "out")
    assert named in caught.value.why
    assert not (tmp_path / "out").exists()


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    base = save_model(tmp_path / "base", "llama")
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    model.save_pretrained(base)
    with pytest.raises(ModelError, match="not finite") as caught:
        written(base, tmp_path / "out")
    assert "layers.1.mlp.up_proj" in caught.value.why
