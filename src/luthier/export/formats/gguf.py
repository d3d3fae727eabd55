"""`gguf`: one file for llama.cpp, in fp32 or quantised, with an Ollama `Modelfile` and the source's tokenizer files.

There is no kept converter on PyPI: llama.cpp's own script comes with its repository, the one repackaging of it lays its
files over the `gguf` package. So this is written on that package, llama.cpp's own library for its format, and each
family is compared with transformers in the tests.

What is kept in how many bits:

- `gguf`: everything in fp32.
- `gguf-q8_0`, `gguf-q4_0`: matrices rounded to the nearest, 32 weights sharing a scale. Vectors (norms, biases) and
  GPT-2's positions stay fp32, as do matrices whose rows are no multiple of 32 wide. The output layer of `gguf-q4_0`,
  and the embeddings where they serve as one, are q8_0: llama.cpp takes q6_K or, for widths that are no multiple of
  256, q8_0.
- `gguf-q4_k_m`: llama.cpp's mixture of k-quants, computed by its own quantiser: more bits for the output, for values
  and for the way out of the feed-forward part in some layers; q5_0, q5_1 or q8_0 where rows are no multiple of 256
  wide.
"""

import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Bits
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, PreTrainedConfig

from luthier.core.errors import ModelError
from luthier.core.files import disk_errors, write_atomic
from luthier.export.formats.gguf_families import Family, context_of, family_of, rope_factors
from luthier.export.formats.gguf_quantise import bits_of, by_tool, has_k_quants, quantised
from luthier.export.formats.gguf_words import PHI_3, Words, words_of
from luthier.export.formats.merged import TOKENIZER_FILES
from luthier.export.formats.modelfile import modelfile
from luthier.export.spec import Form
from luthier.model.base import licence_of
from luthier.model.checks import weight_files
from luthier.model.load import load_tokenizer, quiet
from luthier.model.template import Template

FILE, MODELFILE = "model.gguf", "Modelfile"
ROPE_FACTORS = "rope_freqs.weight"
HEADS = ("lm_head.weight",)
EMBEDDINGS, OUTPUT, POSITIONS = "token_embd.weight", "output.weight", "position_embd.weight"
FORMS = {
    "gguf": (Bits.F32, gguf.LlamaFileType.ALL_F32),
    "gguf-q8_0": (Bits.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "gguf-q4_0": (Bits.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0),
    "gguf-q4_k_m": (Bits.Q4_K, gguf.LlamaFileType.MOSTLY_Q4_K_M),
}
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class _Part:
    """One tensor on its way into the file."""

    name: str
    """Its name in GGUF."""
    source: str
    """Its name in safetensors."""
    file: Path
    shape: tuple[int, ...]
    bits: Bits


def build(form: Form, merged: Path, out: Path) -> None:
    """Write `model.gguf`, `Modelfile` and the tokenizer's files into `out`, from a plain model folder.

    One tensor is in memory at a time. Raise ModelError for an architecture, a tokenizer or a width that llama.cpp does
    not compute alike, naming it.
    """
    config = _config(merged)
    family, template = family_of(config, merged), Template(load_tokenizer(merged))
    words = words_of(template, config.vocab_size, merged)
    for_tool = form.name == "gguf-q4_k_m" and not has_k_quants()
    bits, kind = FORMS["gguf" if for_tool else form.name]
    parts, head = list(_parts(merged, config, family, bits)), _Head(config, family, words, merged, kind)
    out.mkdir(parents=True, exist_ok=True)
    with disk_errors(out):
        if for_tool:
            by_tool(lambda path: _write(path, head, parts), out / FILE)
        else:
            _write(out / FILE, head, parts)
        # Our engine templates and counts tokens with the source's own files; the config says how many there may be.
        patterns = (*TOKENIZER_FILES, "config.json")
        for path in sorted(path for pattern in patterns for path in merged.glob(pattern) if path.is_file()):
            shutil.copyfile(path, out / path.name)
    stops = [words.tokens[number] for name, number in words.ids.items() if name in ("eos", "eot", "eom")]
    write_atomic(out / MODELFILE, modelfile(FILE, stops))


@dataclass(frozen=True)
class _Head:
    """What stands before the tensors."""

    config: PreTrainedConfig
    family: Family
    words: Words
    folder: Path
    kind: gguf.LlamaFileType

    def write(self, writer: gguf.GGUFWriter) -> None:
        config = self.config
        writer.add_type("model")
        writer.add_name(self._name())
        licence = licence_of(self.folder)
        if licence:
            writer.add_license(licence)
        writer.add_file_type(self.kind)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        writer.add_vocab_size(config.vocab_size)
        writer.add_context_length(context_of(config))
        writer.add_block_count(config.num_hidden_layers)
        writer.add_head_count(config.num_attention_heads)
        self.family.describe(writer, config)
        self.words.write(writer)

    def _name(self) -> str:
        """Return the model's name; llama.cpp takes the white space after Phi-3's tokens from this alone."""
        if self.words.is_phi_3:
            return PHI_3
        return f"{self.config.model_type.split('_')[0]} tuned by Luthier".replace("phi3", "phi")


def _config(folder: Path) -> PreTrainedConfig:
    try:
        with quiet():
            return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError("the model's config cannot be read", where={"folder": folder}, why=why) from error


def _parts(folder: Path, config: PreTrainedConfig, family: Family, bits: Bits) -> Iterator[_Part]:
    """Yield the tensors in the order of the files; refuse one that llama.cpp has no name for."""
    names = gguf.get_tensor_name_map(family.arch, config.num_hidden_layers)
    for path in weight_files(folder):
        for source, shape in _shapes(path):
            is_output_twice = config.tie_word_embeddings and source in HEADS
            if is_output_twice or source.endswith(family.skips or ("\0",)):
                continue
            name = names.get_name(source, try_suffixes=(".weight", ".bias"))
            if name is None:
                raise ModelError("a tensor has no place in GGUF", where={"file": path}, why=f"it is called `{source}`")
            shape = shape[::-1] if family.is_transposed(source) else shape
            yield _Part(name, source, path, shape, _bits(name, shape, bits, config))


def _shapes(path: Path) -> list[tuple[str, tuple[int, ...]]]:
    try:
        with safe_open(path, framework="pt") as file:
            return [(name, tuple(file.get_slice(name).get_shape())) for name in file.keys()]  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError("the model's weights cannot be read", where={"file": path}, why=str(error)) from error


def _bits(name: str, shape: tuple[int, ...], asked: Bits, config: PreTrainedConfig) -> Bits:
    """Return in how many bits a tensor is kept; see the top of this file."""
    if len(shape) < 2 or name == POSITIONS:
        return Bits.F32
    is_output = name == OUTPUT or (config.tie_word_embeddings and name == EMBEDDINGS)
    return bits_of(name, shape[-1], asked, is_output=is_output, layers=config.num_hidden_layers)


def _write(path: Path, head: _Head, parts: list[_Part]) -> None:
    """Write a GGUF file: what there is first, then each tensor."""
    writer = gguf.GGUFWriter(path, head.family.name)
    try:
        head.write(writer)
        factors = rope_factors(head.config)
        if factors is not None:
            writer.add_tensor_info(ROPE_FACTORS, factors.shape, factors.dtype, factors.nbytes)
        for part in parts:
            _announce(writer, part)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if factors is not None:
            writer.write_tensor_data(factors)
        for part in parts:
            writer.write_tensor_data(_data(part, head))
    finally:
        writer.close()


def _announce(writer: gguf.GGUFWriter, part: _Part) -> None:
    if part.bits == Bits.F32:
        writer.add_tensor_info(part.name, part.shape, np.dtype(np.float32), 4 * math.prod(part.shape))
        return
    in_bytes = gguf.quant_shape_to_byte_shape(part.shape, part.bits)
    writer.add_tensor_info(part.name, in_bytes, np.dtype(np.uint8), math.prod(in_bytes), raw_dtype=part.bits)


def _data(part: _Part, head: _Head) -> Array:
    with safe_open(part.file, framework="pt") as file:
        tensor = file.get_tensor(part.source).to(torch.float32)
    if head.family.is_transposed(part.source):
        tensor = tensor.T
    data = head.family.change(part.source, tensor, head.config).contiguous().numpy()
    if not np.isfinite(data).all():
        why = f"`{part.source}` has some"
        raise ModelError("the model's numbers are not finite", where={"file": part.file}, why=why)
    return quantised(data, part.bits)
