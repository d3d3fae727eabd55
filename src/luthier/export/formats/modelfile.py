"""Modelfile: how Ollama runs a GGUF file."""

from collections.abc import Sequence

HEAD = """\
# Run it with: ollama create my-model -f Modelfile && ollama run my-model
# There is no TEMPLATE here: the chat template is in the GGUF file, and Ollama reads it from there.
FROM ./{file}
"""


def modelfile(file: str, stops: Sequence[str]) -> str:
    """Return an Ollama Modelfile for a GGUF file beside it, with the texts of the tokens that end an answer."""
    lines = [f"PARAMETER stop {_quoted(stop)}\n" for stop in stops]
    return HEAD.format(file=file) + "".join(lines)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
