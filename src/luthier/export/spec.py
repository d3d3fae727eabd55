"""What can be said about export."""

from typing import Literal

from pydantic import Field

from luthier.core.spec import Spec

ExportName = Literal[
    "merged",
    "adapter",
    "onnx",
    "onnx-int8",
    "onnx-int4",
    "gguf",
    "gguf-q8_0",
    "gguf-q4_0",
    "gguf-q4_k_m",
    "bundle",
]
"""`merged`: one model in safetensors. `adapter`: PEFT's own format. `onnx`, `onnx-int8`, `onnx-int4`: a folder for
ONNX Runtime GenAI, in fp32 or with weights of few bits. `gguf`, `gguf-q8_0`, …: one file for llama.cpp, in fp32 or
quantised, with an Ollama `Modelfile`. `bundle`: the merged model with all that another machine needs to run it."""
Target = Literal["cpu", "cuda", "dml", "webgpu", "trt-rtx"]
"""What an ONNX model is built for, in ONNX Runtime's words for its providers."""
Algorithm = Literal["rtn", "k_quant"]
"""How ONNX weights of few bits are found: rounded to the nearest, or by a search for each block's scale."""


class Form(Spec):
    """One form in which a tuned model is exported."""

    name: ExportName
    """The form."""
    target: Target = "cpu"
    """What an ONNX model is built for; what this machine cannot run is built and never certified."""
    block_size: Literal[16, 32, 64, 128, 256] = 32
    """Weights of an ONNX model that share a scale; smaller blocks are nearer and larger."""
    algorithm: Algorithm = "rtn"
    """How ONNX weights of few bits are found."""
    wider: tuple[str, ...] = Field((), max_length=1024)
    """Parts of a quantised ONNX model that keep more bits: numbers of layers, or `head` for the output layer."""

    @property
    def title(self) -> str:
        """The name with what differs from the usual, as a folder's name."""
        parts = [self.name]
        if self.target != "cpu":
            parts.append(self.target)
        if self.algorithm != "rtn":
            parts.append(self.algorithm.replace("_", ""))
        if self.block_size != 32:
            parts.append(f"b{self.block_size}")
        if self.wider:
            parts.append("w" + ".".join(_ranges(self.wider)))
        return "-".join(parts)


def _ranges(parts: tuple[str, ...]) -> list[str]:
    """Return parts with numbers in a row written as `first_last`."""
    numbers = sorted({int(part) for part in parts if part.isdecimal()})
    words: list[str] = []
    for place, number in enumerate(numbers):
        if place and numbers[place - 1] == number - 1:
            words[-1] = f"{words[-1].partition('_')[0]}_{number}"
        else:
            words.append(str(number))
    return words + [part for part in parts if not part.isdecimal()]


def form_of(asked: "ExportName | Form") -> Form:
    """Return a form that a recipe may name in one word."""
    return asked if isinstance(asked, Form) else Form(name=asked)
