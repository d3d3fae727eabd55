"""The versions of what makes exports and runs them."""

import contextlib
import importlib.metadata

import luthier

VERSIONED = ("torch", "transformers", "peft", "onnxruntime-genai", "onnxruntime", "gguf", "xllamacpp")


def versions() -> dict[str, str]:
    """Return the version of each library that is installed, Luthier's first."""
    found = {"luthier": luthier.__version__}
    for name in VERSIONED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
