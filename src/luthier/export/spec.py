"""What can be said about export."""

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from luthier.core.spec import BLOCK_BRANCH, NAME_BRANCH, Spec, branch_of

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

    @model_validator(mode="after")
    def _has_these_options(self) -> Self:
        if self.options and not self.name.startswith("onnx"):
            name = next(iter(self.options))
            raise ValueError(f"`{self.name}` has no option `{name}`: it goes with onnx, onnx-int8 and onnx-int4")
        if self.name == "onnx" and self.options.keys() - {"target"}:
            raise ValueError("`onnx` is not quantised: blocks and wider parts go with onnx-int8 and onnx-int4")
        return self

    @property
    def options(self) -> dict[str, object]:
        """The options that differ from the usual."""
        usual = {name: field.default for name, field in type(self).model_fields.items() if name != "name"}
        return {name: getattr(self, name) for name, value in usual.items() if getattr(self, name) != value}

    @property
    def title(self) -> str:
        """The name with what differs from the usual, as a folder's name."""
        words = {
            "target": self.target,
            "algorithm": self.algorithm.replace("_", ""),
            "block_size": f"b{self.block_size}",
            "wider": "w" + ".".join(_ranges(self.wider)),
        }
        return "-".join([self.name, *(word for name, word in words.items() if name in self.options)])


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


FormEntry = Annotated[
    Annotated[ExportName, Tag(NAME_BRANCH)] | Annotated[Form, Tag(BLOCK_BRANCH)], Discriminator(branch_of)
]
"""A form as a recipe writes it: in one word, or with its options."""


def form_of(asked: "ExportName | Form") -> Form:
    """Return a form that a recipe may name in one word."""
    return asked if isinstance(asked, Form) else Form(name=asked)
