"""Switchable LoRA adapters of an ONNX model: low-rank products beside its matrices, with the weights as inputs.

Where no adapter is active the inputs are empty (rank 0), and the model is the base, exactly. Files are in ONNX
Runtime's adapter format, as Olive's `generate-adapter` writes them.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from luthier.core.errors import ModelError
from luthier.model.adapters.lora import BASE_CHANGING
from luthier.model.adapters.qlora import ROUNDED_BASE
from luthier.model.checks import read_json

if TYPE_CHECKING:
    import onnx

Array = np.ndarray[Any, np.dtype[np.float32]]
NODE = re.compile(r"/(?:model/layers\.(\d+)/(?:attn|mlp)/|)(\w+)/MatMul(?:_Q[48])?")
TENSOR = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
MODULE = re.compile(r"(?:.*\.layers\.(\d+)\.(?:self_attn|attn|mlp)\.|)(\w+)")
FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
Place = tuple[int | None, str]
"""A layer's number, None for the output layer, and the matrix's name there."""


@dataclass(frozen=True)
class Pair:
    """A low-rank update of one matrix: x @ a @ b, the scaling in `b`."""

    a: Array
    """(inputs, rank)."""
    b: Array
    """(rank, outputs)."""


@dataclass(frozen=True)
class Lora:
    """An adapter's updates by place."""

    name: str
    folder: Path
    pairs: dict[Place, Pair]


def read_adapter(name: str, folder: Path) -> Lora:
    """Return a LoRA adapter in PEFT's format; ModelError for other kinds, and for another base's."""
    told = read_json(folder / "adapter_config.json")
    _check_kind(told, folder)
    alpha = float(told.get("lora_alpha", 8))
    tensors = _tensors(folder / "adapter_model.safetensors")
    halves: dict[Place, dict[str, Array]] = {}
    for tensor, value in tensors.items():
        found = TENSOR.fullmatch(tensor)
        module = MODULE.fullmatch(found[1]) if found else None
        if not found or not module:
            why = f"`{tensor}` is no part of a plain LoRA of a matrix"
            raise ModelError("this adapter cannot be exported to ONNX", where={"adapter": folder}, why=why)
        place = (int(module[1]) if module[1] else None, module[2])
        halves.setdefault(place, {})[found[2]] = value.astype(np.float32)
    pairs = {}
    for place, both in halves.items():
        if both.keys() != {"A", "B"} or not all(np.isfinite(value).all() for value in both.values()):
            why = f"its update of layer {place[0]} {place[1]} is not whole, or not finite"
            raise ModelError("the adapter's weights are damaged", where={"adapter": folder}, why=why)
        rank = both["A"].shape[0]
        divisor = math.sqrt(rank) if told.get("use_rslora") else rank
        pairs[place] = Pair(both["A"].T.copy(), (both["B"].T * (alpha / divisor)).astype(np.float32))
    return Lora(name, folder, pairs)


def _tensors(path: Path) -> dict[str, Array]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError("the adapter's weights cannot be read", where={"file": path}) from error


def _check_kind(told: Mapping[str, Any], folder: Path) -> None:
    if told.get("peft_type") != "LORA":
        why = f"it is {told.get('peft_type') or 'no adapter'}; ONNX models switch between LoRA adapters only"
        raise ModelError("this kind of adapter cannot be exported to ONNX", where={"adapter": folder}, why=why)
    for key, what in (
        ("use_dora", "DoRA scales by the norm of base and update together"),
        ("modules_to_save", "whole layers were trained"),
        ("rank_pattern", "ranks by layer are not read"),
        ("alpha_pattern", "scalings by layer are not read"),
    ):
        if told.get(key):
            hint = "export it by itself, merged: `--to onnx-int8`"
            where = {"adapter": folder, "field": key}
            raise ModelError("this adapter cannot be switched in an ONNX model", where=where, why=what, hint=hint)
    start = str(told.get("init_lora_weights")).lower()
    if start.startswith(BASE_CHANGING):
        why = f"it began as `{start}`, which changes the base's weights too"
        raise ModelError("this adapter cannot be switched in an ONNX model", where={"adapter": folder}, why=why)
    if (folder / ROUNDED_BASE).exists():
        why, hint = "it was trained beside a base rounded to 4 bits", "export it by itself, merged: `--to onnx-int8`"
        raise ModelError(
            "this adapter cannot be switched in an ONNX model", where={"adapter": folder}, why=why, hint=hint
        )
    if str(told.get("bias", "none")) != "none":
        why = "its biases were trained"
        raise ModelError("this adapter cannot be switched in an ONNX model", where={"adapter": folder}, why=why)


@dataclass(frozen=True)
class Matrix:
    """A product in the graph that adapters may update."""

    node: "onnx.NodeProto"
    layer: int | None
    name: str
    inputs: int
    outputs: int

    @property
    def places(self) -> tuple[Place, ...]:
        """The model's matrices in it, in the order of its outputs."""
        return tuple((self.layer, name) for name in FUSED.get(self.name, (self.name,)))


def add_adapters(path: Path, adapters: Mapping[str, Lora], config: Mapping[str, Any]) -> None:
    """Add updates to a model's graph, and write each adapter's file beside it."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    matrices = _matrices(model.graph)
    sizes = _sizes(config)
    wanted = {place for lora in adapters.values() for place in lora.pairs}
    files: dict[str, dict[str, Array]] = {name: {} for name in adapters}
    for matrix in matrices:
        updated = [place for place in matrix.places if place in wanted]
        if (matrix.layer, matrix.name) in wanted:
            updated = [(matrix.layer, matrix.name)]
        if not updated:
            continue
        wanted -= set(updated)
        _insert(model.graph, matrix)
        for name, lora in adapters.items():
            files[name] |= _weights(matrix, lora, sizes)
    for name, lora in adapters.items():
        lost = sorted(f"layer {layer} {matrix}" for layer, matrix in set(lora.pairs) & wanted)
        if lost:
            why = f"the base has no matrix for {lost[0]}" + (f", and {len(lost) - 1} more" if len(lost) > 1 else "")
            where = {"adapter": lora.folder}
            raise ModelError(f"the adapter `{name}` is for another base", where=where, why=why)
    onnx.save(model, str(path))
    (path.parent / "adapters").mkdir()
    for name, weights in files.items():
        _write(path.parent / "adapters" / f"{name}.onnx_adapter", weights)


def _matrices(graph: "onnx.GraphProto") -> list[Matrix]:
    """Return the graph's products with weights, with their sizes."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    found = []
    for node in graph.node:
        named = NODE.fullmatch(node.name)
        if not named or node.op_type not in ("MatMul", "MatMulNBits"):
            continue
        if node.op_type == "MatMul":
            if len(shapes.get(node.input[1], ())) != 2:
                continue
            inputs, outputs = shapes[node.input[1]]
        else:
            told = {attribute.name: attribute.i for attribute in node.attribute}
            inputs, outputs = told["K"], told["N"]
        layer = int(named[1]) if named[1] else None
        found.append(Matrix(node, layer, named[2], inputs, outputs))
    return found


def _sizes(config: Mapping[str, Any]) -> dict[str, int]:
    """Return the outputs of the matrices that may be fused."""
    heads = int(config["num_attention_heads"])
    groups = int(config.get("num_key_value_heads") or heads)
    head = int(config.get("head_dim") or config["hidden_size"] // heads)
    wide, keys = int(config["intermediate_size"]), groups * head
    return {"q_proj": heads * head, "k_proj": keys, "v_proj": keys, "gate_proj": wide, "up_proj": wide}


def names_of(matrix: Matrix) -> tuple[str, str]:
    """Return the names of a matrix's two inputs."""
    place = f"layers.{matrix.layer}.{matrix.name}" if matrix.layer is not None else matrix.name
    return f"{place}.lora_A", f"{place}.lora_B"


def _insert(graph: "onnx.GraphProto", matrix: Matrix) -> None:
    """Add `x @ A @ B` to a product's result; A and B are inputs of the graph that are empty by default."""
    from onnx import TensorProto, helper

    a, b = names_of(matrix)
    node = matrix.node
    result, plain = node.output[0], f"{node.output[0]}/without_lora"
    node.output[0] = plain
    low, delta = f"{a}/output", f"{b}/output"
    for name, shape, empty in (
        (a, (matrix.inputs, f"{a}.rank"), (matrix.inputs, 0)),
        (b, (f"{a}.rank", matrix.outputs), (0, matrix.outputs)),
    ):
        graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        graph.initializer.append(helper.make_tensor(name, TensorProto.FLOAT, empty, []))
    added = [
        helper.make_node("MatMul", [node.input[0], a], [low], name=f"{node.name}/lora_A"),
        helper.make_node("MatMul", [low, b], [delta], name=f"{node.name}/lora_B"),
        helper.make_node("Add", [plain, delta], [result], name=f"{node.name}/lora_Add"),
    ]
    # The graph's nodes stand in the order of their computation.
    at = next(place for place, one in enumerate(graph.node) if one.name == node.name) + 1
    for offset, one in enumerate(added):
        graph.node.insert(at + offset, one)


def _weights(matrix: Matrix, lora: Lora, sizes: Mapping[str, int]) -> dict[str, Array]:
    """Return an adapter's two inputs for a product: those of fused matrices lie side by side."""
    whole = lora.pairs.get((matrix.layer, matrix.name))
    if whole is not None:
        parts = [(whole, 0)]
    else:
        parts, at = [], 0
        for place in matrix.places:
            pair = lora.pairs.get(place)
            if pair is not None:
                parts.append((pair, at))
            at += sizes.get(place[1], matrix.outputs)
    # An empty input would not be stored.
    rank = max(1, sum(pair.a.shape[1] for pair, _ in parts))
    a, b = np.zeros((matrix.inputs, rank), np.float32), np.zeros((rank, matrix.outputs), np.float32)
    row = 0
    for pair, column in parts:
        width = pair.a.shape[1]
        fits = pair.a.shape[0] == matrix.inputs and column + pair.b.shape[1] <= matrix.outputs
        if not fits:
            why = (
                f"its update of layer {matrix.layer} {matrix.name} is {pair.a.shape[0]} by {pair.b.shape[1]}, "
                f"the base's matrix {matrix.inputs} by {matrix.outputs}"
            )
            raise ModelError(f"the adapter `{lora.name}` is for another base", where={"adapter": lora.folder}, why=why)
        a[:, row : row + width] = pair.a
        b[row : row + width, column : column + pair.b.shape[1]] = pair.b
        row += width
    names = names_of(matrix)
    return {names[0]: a, names[1]: b}


def _write(path: Path, weights: Mapping[str, Array]) -> None:
    import onnxruntime

    file = onnxruntime.AdapterFormat()
    file.set_adapter_version(1)
    file.set_model_version(1)
    file.set_parameters({name: onnxruntime.OrtValue.ortvalue_from_numpy(value) for name, value in weights.items()})
    file.export_adapter(str(path))
