"""Turn a GGUF file into a model folder in fp32 safetensors; runs as a child process, see `child.py`."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from luthier.core.errors import ModelError
from luthier.model.child import limit_memory, run_child

STAGES = ("libraries", "tokenizer", "weights", "saved")
LEAST_SECONDS, SECONDS_PER_MB = 300, 2
MEMORY_BYTES, MEMORY_PER_BYTE = 4 << 30, 40
"""Room for the libraries, and for weights of two bits held twice in fp32."""


def convert(source: Path, out: Path, on_stage: Callable[[str], None]) -> None:
    """Convert `source` into the folder `out` in a child process that may take a limited time and memory."""
    seconds = LEAST_SECONDS + SECONDS_PER_MB * source.stat().st_size / 1e6
    arguments = [str(source.resolve()), str(out.resolve())]
    run_child(
        "luthier.model.convert", arguments, what="this .gguf file cannot be used", seconds=seconds, on_line=on_stage
    )


def main(source: Path, out: Path) -> None:
    """Do the conversion, and write a line to stdout after each stage."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from luthier.model.load import check_complete, quiet

    _report("libraries")
    limit_memory(MEMORY_BYTES + MEMORY_PER_BYTE * source.stat().st_size)
    # Alone in a folder of its own, no config.json or adapter beside the file is read along with it.
    with tempfile.TemporaryDirectory() as alone, quiet():
        (Path(alone) / "model.gguf").symlink_to(source)
        AutoTokenizer.from_pretrained(alone, gguf_file="model.gguf").save_pretrained(out)
        _report("tokenizer")
        model, info = AutoModelForCausalLM.from_pretrained(
            alone,
            gguf_file="model.gguf",
            dtype=torch.float32,
            # Without this the model keeps its quantiser, and can be neither trained nor saved.
            quantization_config=GgufConfig(dequantize=True),
            output_loading_info=True,
        )
        check_complete(info, source)
        _report("weights")
        model.save_pretrained(out)
        (out / "README.md").write_text(_card(source), encoding="utf-8")
        _report("saved")


def _card(source: Path) -> str:
    """Return a model card that keeps what the GGUF file says about its origin."""
    from gguf import GGUFReader

    fields = GGUFReader(source).fields
    said = {key: fields[f"general.{key}"].contents() for key in ("license", "name") if f"general.{key}" in fields}
    front = f"license: {said['license']}\n" if "license" in said else ""
    return f"---\n{front}---\n{said.get('name', source.stem)}, converted from {source.name} by Luthier.\n"


def _report(stage: str) -> None:
    sys.stdout.write(stage + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except ModelError as error:
        sys.exit(f"{error.what}: {error.why}")
