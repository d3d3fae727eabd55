"""One table for the first and the last matrix: where a model ties them, its embeddings are rows of the quantised head.

The builder writes embeddings of a model in 8 bits as fp32, beside the same numbers quantised in the head: of a model
with many words and few layers that is half the file.
"""

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

EMBEDDING, HEAD = "/model/embed_tokens/Gather", re.compile(r"/lm_head/MatMul_Q\d+")


def tie_embeddings(path: Path) -> None:
    """Let the embeddings of the model file `path` gather rows of its quantised head; where there is none, they stay.

    The row of a word is the same blocks and scales in both: `MatMulNBits` keeps them as (words, blocks, bytes of a
    block), ONNX Runtime's `GatherBlockQuantized` reads them as (words, bytes).
    """
    import onnx_ir as ir

    model = ir.load(path)
    nodes = {node.name or "": node for node in model.graph}
    embedding = nodes.get(EMBEDDING)
    head = next((node for name, node in nodes.items() if HEAD.fullmatch(name)), None)
    if embedding is None or head is None:
        return
    _gather_from(head, embedding, model.graph)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        ir.save(model, Path(folder) / path.name, external_data=f"{path.name}.data")
        for written in Path(folder).iterdir():
            written.replace(path.parent / written.name)


def _gather_from(head: "ir.Node", embedding: "ir.Node", graph: "ir.Graph") -> None:
    """Put a gather of the head's rows in the embedding's place."""
    import onnx_ir as ir

    def numbers(name: str, value: list[int]) -> ir.Value:
        made = ir.val(name, const_value=ir.tensor(np.array(value, dtype=np.int64), name=name))
        graph.register_initializer(made)
        return made

    width, words, bits, block = (head.attributes[name].as_int() for name in ("K", "N", "bits", "block_size"))
    padded = -(-width // block) * block
    _, packed, *scales = head.inputs
    rows = ir.node("Reshape", [packed, numbers("embed_tokens_rows", [words, padded * bits // 8])])
    gather = ir.node(
        "GatherBlockQuantized",
        [rows.outputs[0], embedding.inputs[1], *scales[:2]],
        attributes={"bits": bits, "block_size": block, "gather_axis": 0, "quantize_axis": 1},
        domain="com.microsoft",
        name=f"{EMBEDDING}BlockQuantized",
    )
    made = [rows, gather]
    if padded != width:
        ends = [numbers(f"embed_tokens_{name}", [value]) for name, value in (("from", 0), ("to", width), ("axis", -1))]
        made.append(ir.node("Slice", [gather.outputs[0], *ends]))

    table, whole = embedding.inputs[0], embedding.outputs[0]
    made[-1].outputs[0].dtype, made[-1].outputs[0].shape = whole.dtype, whole.shape
    graph.insert_before(embedding, made)
    whole.replace_all_uses_with(made[-1].outputs[0])
    graph.remove(embedding, safe=True)
    if table is not None and table.name and not table.uses():
        del graph.initializers[table.name]
