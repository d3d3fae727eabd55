"""Open an engine on a folder: which one reads its files, and what it needs to be installed."""

import importlib.util
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from luthier.core.errors import ModelError
from luthier.model.checks import kind_of
from luthier.serve.request import Engine

if TYPE_CHECKING:
    from luthier.serve.spec import ServeSpec

EngineName = Literal["transformers", "onnx", "llama.cpp"]
ONNX_FILE = "genai_config.json"
GGUF_FILE = "model.gguf"
LLAMA_SERVER = "llama-server"


def engine_of(folder: Path) -> EngineName:
    """Return the engine that reads a model folder's files."""
    if (folder / ONNX_FILE).is_file():
        return "onnx"
    return "llama.cpp" if (folder / GGUF_FILE).is_file() else "transformers"


def missing(name: EngineName) -> str | None:
    """Return how to get an engine that is not installed, or None where it is there."""
    if name == "onnx" and importlib.util.find_spec("onnxruntime_genai") is None:
        return "pip install 'luthier[onnx]'"
    has_llama = importlib.util.find_spec("xllamacpp") is not None or shutil.which(LLAMA_SERVER)
    if name == "llama.cpp" and not has_llama:
        return f"pip install 'luthier[llama-cpp]', or put `{LLAMA_SERVER}` on the PATH"
    return None


def open_engine(name: EngineName, folder: Path, spec: "ServeSpec") -> Engine:
    """Load a model folder in an engine; raise ModelError where that is not installed or does not read the folder."""
    hint = missing(name)
    if hint:
        raise ModelError(f"the engine `{name}` is not installed", where={"model": folder}, hint=hint)
    if name != "transformers" and engine_of(folder) != name:
        why = f"its files are for the engine `{engine_of(folder)}`"
        raise ModelError(f"the engine `{name}` does not read this folder", where={"model": folder}, why=why)
    if name == "transformers":
        check_goes_on(folder)
    # Loaded only now: each engine brings a library of its own.
    if name == "onnx":
        from luthier.serve.engines.onnx import OnnxEngine

        return OnnxEngine(folder, spec)
    if name == "llama.cpp":
        from luthier.serve.engines.llama_cpp import LlamaCppEngine

        return LlamaCppEngine(folder, spec)
    from luthier.serve.engines.transformers import TransformersEngine

    return TransformersEngine(folder, spec)


def check_goes_on(folder: Path) -> None:
    """Raise ModelError for a model that reads one text and writes another: engines go on with a text."""
    if kind_of(folder) == "encoder-decoder":
        why = "an encoder-decoder reads one text and writes another; it does not go on with a conversation"
        hint = "ask its run with `luthier predict RUN`, or load the folder with transformers"
        raise ModelError("this model cannot be chatted with or served", where={"model": folder}, why=why, hint=hint)


def open_adapter(base: Path, adapter: Path, spec: "ServeSpec") -> tuple[Engine, Path | None]:
    """Load a base with an adapter; with the engine, the adapter to ask it with, where it can have several."""
    from luthier.serve.adapters import why_not_beside

    check_goes_on(base)
    if why_not_beside(adapter) is None:
        return open_engine("transformers", base, spec), adapter
    from luthier.serve.engines.alone import AloneEngine

    return AloneEngine(base, adapter, spec), None


def open_remote(url: str, model: str, folder: Path, spec: "ServeSpec", key: str | None) -> Engine:
    """Return an engine over a model of another server; `folder` holds its tokenizer and template."""
    from luthier.serve.engines.remote import RemoteEngine

    return RemoteEngine(url, model, folder, spec, key)
