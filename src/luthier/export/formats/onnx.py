"""`onnx`, `onnx-int8`, `onnx-int4`: a folder for ONNX Runtime GenAI, written by its own model builder.

The builder runs in a child process: it reads the whole model, and what it does not know ends there and not here. The
tokenizer's files and the chat template are the source's own bytes.
"""

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from luthier.core.errors import ModelError, RecipeError
from luthier.core.files import disk_errors
from luthier.export.formats.onnx_tie import tie_embeddings
from luthier.export.spec import Form
from luthier.model.checks import read_json

BUILDER = "onnxruntime_genai.models.builder"
PROVIDERS = {"cpu": "cpu", "cuda": "cuda", "dml": "dml", "webgpu": "webgpu", "trt-rtx": "NvTensorRtRtx"}
BITS = {"onnx": None, "onnx-int8": "int8", "onnx-int4": "int4"}
FLOATS = {"cpu": "fp32", "cuda": "fp16", "dml": "fp16", "trt-rtx": "fp16"}
"""What the builder writes for a device without few bits; WebGPU's has none."""
HEAD = "head"
HEAD_NODE = "/lm_head/MatMul"
ONE_LAYER = "1"
LONGEST_S = 3 * 3600
MODEL_FILE = "model.onnx"


def build(form: Form, merged: Path, out: Path) -> None:
    """Write a GenAI folder into the empty folder `out` from a plain model folder.

    `form.wider` are numbers of decoder layers, or `head`: of an int4 model they keep 8 bits, of an int8 model fp32.
    Raises ModelError for an architecture that the builder does not know, RecipeError for parts that the model lacks.
    """
    check_architecture(merged)
    run_builder(form, merged, out, overrides=_overrides(form, merged))
    if is_tied(form, merged):
        tie_embeddings(out / MODEL_FILE)
    keep_words(merged, out)


def is_tied(form: Form, merged: Path) -> bool:
    """Tell whether the embeddings are to be rows of the output layer: the same table, there in 8 bits, for the CPU."""
    in_8_bits = HEAD in form.wider if form.name == "onnx-int4" else form.name == "onnx-int8" and HEAD not in form.wider
    return in_8_bits and form.target == "cpu" and bool(read_json(merged / "config.json").get("tie_word_embeddings"))


def run_builder(form: Form, merged: Path, out: Path, *, overrides: list[dict[str, Any]], layers: str = "") -> None:
    """Run the builder in a child process; with `layers`, on so many of the model's layers only."""
    bits = BITS[form.name]
    precision = bits or FLOATS.get(form.target)
    if precision is None:
        hint = "take `onnx-int8` or `onnx-int4`"
        raise RecipeError(f"`{form.name}` cannot be built for {form.target}", where={"option": "--target"}, hint=hint)
    weights = {"type": bits, "block_size": form.block_size, "method": form.algorithm, "overrides": overrides}
    if bits == "int4" and not is_tied(form, merged):
        # Embeddings, too: often a fifth of a small model. In 8 bits the builder does not write them.
        weights["op_types"] = ["MatMul", "Gather"]
    arguments = ["-i", str(merged), "-o", str(out), "-p", precision, "-e", PROVIDERS[form.target]]
    if bits:
        arguments += ["--target_options", json.dumps({"quant_config": {"weights": weights}})]
    extra = ["hf_token=false", *([f"num_hidden_layers={layers}"] if layers else [])]
    with tempfile.TemporaryDirectory(prefix=".cache", dir=out.parent) as cache:
        command = [sys.executable, "-P", "-m", BUILDER, *arguments, "-c", cache, "--extra_options", *extra]
        talk = _run(command, merged)
    if not (out / MODEL_FILE).is_file():
        raise ModelError("the ONNX model was not built", where={"model": merged}, why=talk)


def _run(command: list[str], merged: Path) -> str:
    """Run a command of ours, and return its last words; ModelError where it fails."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with disk_errors(merged), tempfile.TemporaryFile("w+", errors="replace") as said:
        done = subprocess.run(  # noqa: S603 (this Python and the builder; only file names come from outside)
            command, stdout=said, stderr=subprocess.STDOUT, env=environment, timeout=LONGEST_S, check=False
        )
        said.seek(0)
        lines = [line.strip() for line in said.read().splitlines() if line.strip()]
    last = re.sub(r"^[\w.]+(Error|Exception): ", "", lines[-1]) if lines else "it said nothing"
    if done.returncode:
        if "No space left" in last:
            raise OSError(28, "No space left on device")
        why = last if done.returncode > 0 else f"it was ended by signal {-done.returncode}; memory may be short"
        raise ModelError("the ONNX model cannot be built", where={"model": merged}, why=why)
    return last


def keep_words(merged: Path, out: Path) -> None:
    """Put the source's own tokenizer files, template and settings in place of those that the builder wrote."""
    for path in sorted(merged.iterdir()):
        is_words = path.suffix in (".json", ".jinja", ".txt", ".model") and not path.name.endswith(".index.json")
        if path.is_file() and is_words and path.name != "manifest.json":
            shutil.copyfile(path, out / path.name)


def check_architecture(merged: Path) -> None:
    """Refuse an architecture that the builder does not know, before it reads the weights."""
    architecture = (read_json(merged / "config.json").get("architectures") or ["none"])[0]
    known = known_architectures()
    if known and architecture not in known:
        hint = f"the builder knows {', '.join(name.removesuffix('ForCausalLM') for name in known)}"
        what = f"ONNX Runtime GenAI's builder does not know `{architecture}`"
        raise ModelError(what, where={"model": merged}, hint=hint)


def known_architectures() -> list[str]:
    """Return the architectures of text models that the installed builder names; read from its source, not run."""
    found = importlib.util.find_spec("onnxruntime_genai")
    if found is None or found.origin is None:
        hint = "pip install 'luthier[onnx]'"
        raise ModelError("ONNX Runtime GenAI is not installed", where={"package": "onnxruntime-genai"}, hint=hint)
    source = (Path(found.origin).parent / "models" / "builder.py").read_text(encoding="utf-8")
    texts = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
    return sorted(text for text in texts if isinstance(text, str) and re.fullmatch(r"\w+ForCausalLM", text))


def _overrides(form: Form, merged: Path) -> list[dict[str, Any]]:
    """Return which matrices keep more bits, in the builder's words."""
    if not form.wider:
        return []
    count = int(read_json(merged / "config.json").get("num_hidden_layers", 0))
    for part in form.wider:
        if part != HEAD and not (part.isdecimal() and int(part) < count):
            hint = f"it is a layer from 0 to {count - 1}, or `{HEAD}`"
            raise RecipeError(f"the model has no part `{part}`", where={"option": "--wider"}, hint=hint)
    suffixes = _matrices_of_a_layer(form, merged)
    names = []
    for part in form.wider:
        names += [HEAD_NODE] if part == HEAD else [f"/model/layers.{part}/{suffix}" for suffix in suffixes]
    change = {"type": "int8"} if form.name == "onnx-int4" else {"exclude": True}
    return [{"match": {"name": name}, **change} for name in names]


def _matrices_of_a_layer(form: Form, merged: Path) -> list[str]:
    """Return how the builder calls a layer's matrices, seen in a model of one layer: some are fused, some are not."""
    import onnx

    with tempfile.TemporaryDirectory(prefix="luthier-onnx-") as name:
        out = Path(name) / "one"
        out.mkdir()
        run_builder(form, merged, out, overrides=[], layers=ONE_LAYER)
        graph = onnx.load(str(out / MODEL_FILE), load_external_data=False).graph
    found = [re.fullmatch(r"/model/layers\.0/(.+/MatMul)(_Q[48])?", node.name) for node in graph.node]
    return [match[1] for match in found if match]


def build_with_adapters(form: Form, base: Path, adapters: Mapping[str, Path], out: Path) -> None:
    """Write the base once, and each adapter as `adapters/<name>.onnx_adapter`; see `onnx_adapters`."""
    from luthier.export.formats.onnx_adapters import add_adapters, read_adapter

    if form.target != "cpu":
        hint = "leave `--target` out"
        raise RecipeError("adapters are written for the CPU only", where={"option": "--target"}, hint=hint)
    read = {name: read_adapter(name, folder) for name, folder in adapters.items()}
    build(form, base, out)
    add_adapters(out / MODEL_FILE, read, read_json(base / "config.json"))
