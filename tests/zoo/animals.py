"""Malicious files, made in code: each tries to run something, to reach out of its folder, or to take all memory."""

import gzip
import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

GIGA = 1 << 30


class Payload:
    """Unpickled, it runs a command that leaves a canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, (f"touch {self.canary}",)


def pickled(canary: Path) -> bytes:
    """Return a pickle that runs a command."""
    return pickle.dumps({"weight": Payload(canary)})


def code(canary: Path) -> str:
    """Return a module that leaves a canary when it is imported, and has every name."""
    return f"open({str(canary)!r}, 'w').close()\ndef __getattr__(name):\n    return type(name, (), {{}})\n"


def change(path: Path, **values: Any) -> None:
    """Set keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values) if path.exists() else json.dumps(values))


def weights_as(name: str) -> Callable[[Path, Path], None]:
    """Put a pickle in the place of the weights, under a name."""

    def make(folder: Path, canary: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(pickled(canary))

    return make


def config(**values: Any) -> Callable[[Path, Path], None]:
    """Set keys of the model's config, with code that would be run for them beside it."""

    def make(folder: Path, canary: Path) -> None:
        change(folder / "config.json", **values)
        for name in ("modeling_evil.py", "configuration_evil.py", "kernel.py"):
            (folder / name).write_text(code(canary))

    return make


def tokenizer(keep_fast: bool = True, **values: Any) -> Callable[[Path, Path], None]:
    """Set keys of the tokenizer's config, with its code beside it."""

    def make(folder: Path, canary: Path) -> None:
        change(folder / "tokenizer_config.json", **values)
        (folder / "tokenization_evil.py").write_text(code(canary))
        if not keep_fast:
            (folder / "tokenizer.json").unlink()

    return make


def index(target: str) -> Callable[[Path, Path], None]:
    """Let the index of the weights name another file; `{out}` is a folder beside the model's."""

    def make(folder: Path, canary: Path) -> None:
        out = outside(folder)
        shutil.copy(folder / "model.safetensors", out / "x.safetensors")
        (out / "x.bin").write_bytes(pickled(canary))
        shutil.move(folder / "model.safetensors", folder / "kept.safetensors")
        weight_map = {"model.embed_tokens.weight": target.replace("{out}", str(out))}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))

    return make


def outside(folder: Path) -> Path:
    """Return the folder beside a model that nothing may open."""
    out = folder.parent / "outside"
    out.mkdir(exist_ok=True)
    return out


def header(claimed: int, text: bytes) -> Callable[[Path, Path], None]:
    """Put a safetensors file with this header in the place of the weights."""

    def make(folder: Path, canary: Path) -> None:
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", claimed) + text)

    return make


def file(name: str, content: bytes) -> Callable[[Path, Path], None]:
    """Put a file into the folder."""

    def make(folder: Path, canary: Path) -> None:
        (folder / name).write_bytes(content)

    return make


AUTO = {
    "AutoConfig": "configuration_evil.Config",
    "AutoModelForCausalLM": "modeling_evil.Model",
    "AutoTokenizer": ["tokenization_evil.Tokenizer", None],
}
OVERLAP = json.dumps({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()

# Name: what is done to a good folder, and the words of the refusal; without words it loads, and no stranger's code runs
MODELS: dict[str, tuple[Callable[[Path, Path], None], str | None]] = {
    "pytorch_model.bin": (weights_as("pytorch_model.bin"), "is a pickle"),
    "pt": (weights_as("model.pt"), "is a pickle"),
    "pth": (weights_as("consolidated.00.pth"), "is a pickle"),
    "ckpt": (weights_as("epoch=1.ckpt"), "is a pickle"),
    "pkl": (weights_as("model.pkl"), "is a pickle"),
    "pickle called safetensors": (weights_as("model.safetensors"), "cannot be loaded"),
    "config of an unknown kind with code": (config(model_type="evil", auto_map=AUTO), "needs code"),
    "config of a known kind with code": (config(auto_map=AUTO), None),
    "private switch": (config(_attn_implementation_internal="evil/kernel"), "must not have"),
    "private switch of experts": (config(_experts_implementation_internal="evil/kernel"), "must not have"),
    "private switch within": (config(sub={"_attn_implementation_internal": "evil/k"}), "must not have"),
    "kernel": (config(attn_implementation="evil/kernel"), "foreign code"),
    "kernel by path": (config(_attn_implementation="./kernel"), "foreign code"),
    "quantiser": (config(quantization_config={"quant_method": "evil"}), "quantised"),
    "config that is deep": (file("config.json", b'{"a":' * 100_000), "not JSON"),
    "config that is a list": (file("config.json", b"[]"), "not a JSON object"),
    "tokenizer code": (tokenizer(False, auto_map=AUTO, tokenizer_class="Tokenizer"), "needs code"),
    "tokenizer code and file": (tokenizer(auto_map=AUTO, tokenizer_class="Tokenizer"), None),
    "tokenizer private switch": (tokenizer(_evil="evil/kernel"), "must not have"),
    "tokenizer that is deep": (file("tokenizer.json", b'{"a":' * 100_000), "cannot be loaded"),
    "index upwards": (index("../outside/x.safetensors"), "index of the weights is unsafe"),
    "index absolute": (index("{out}/x.safetensors"), "index of the weights is unsafe"),
    "index of a pickle": (index("../outside/x.bin"), "index of the weights is unsafe"),
    "index that is deep": (file("model.safetensors.index.json", b"[" * 100_000), "not JSON"),
    "header without end": (header((1 << 63) - 1, b"{}"), "cannot be loaded"),
    "header of a gigabyte": (header(GIGA, b"{}"), "cannot be loaded"),
    "tensor beyond the file": (header(len(OVERLAP), OVERLAP), "cannot be loaded"),
    "header that is deep": (header(200_000, b'{"a":' * 40_000), "cannot be loaded"),
    "own generation code": (file("generation_config.json", b'{"custom_generate": "evil/kernel"}'), None),
}


def adapter(**values: Any) -> Callable[[Path, Path], None]:
    """Set keys of an adapter's config."""

    def make(folder: Path, canary: Path) -> None:
        out = outside(folder)
        (out / "x.bin").write_bytes(pickled(canary))
        filled = json.loads(json.dumps(values).replace("{out}", str(out)))
        change(folder / "adapter_config.json", **filled)
        (folder / "evil.py").write_text(code(canary))

    return make


def pickled_adapter(folder: Path, canary: Path) -> None:
    """Put a pickle in the place of the adapter's weights."""
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(pickled(canary))


ADAPTERS: dict[str, tuple[Callable[[Path, Path], None], str | None]] = {
    "pickled": (pickled_adapter, "no safetensors file"),
    "with code": (adapter(auto_mapping={"base_model_class": "M", "parent_library": "evil"}), "needs code"),
    "of another base": (adapter(base_model_name_or_path="{out}"), None),
}

LOOPS = {
    "endless": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "one long step": "{{ 7 ** 77777777 }}",
    "memory": "{{ 'a' * 400000000 }}",
    "memory by joining": "{% set a = ['a' * 1000000] * 10000 %}{{ a | join | length }}",
    "output": "{% for a in range(3000) %}{{ 'abcdefgh' * 100 }}{% endfor %}",
    "a deep macro": "{% macro m(n) %}{{ m(n) }}{{ m(n) }}{% endmacro %}{{ m(1) }}",
}
SUBCLASSES = "().__class__.__bases__[0].__subclasses__()"
ESCAPES = {
    "subclasses": f"{{{{ {SUBCLASSES} }}}}",
    "globals": "{{ raise_exception.__globals__['__builtins__']['open']('CANARY', 'w') }}",
    "init": "{{ cycler.__init__.__globals__.os.system('touch CANARY') }}",
    "attr filter": "{{ ''|attr('__class__')|attr('__mro__') }}",
    "format": "{{ '{0.__class__.__mro__}'.format('') }}",
    "format_map": "{{ '{x.__class__}'.format_map({'x': 1}) }}",
    "import": "{% import 'os' as os %}{{ os.system('touch CANARY') }}",
    "include": "{% include '/etc/passwd' %}",
    "self": "{{ self._TemplateReference__context.eval_ctx.environment.__class__ }}",
    "lipsum": "{{ lipsum.__globals__['os'].popen('touch CANARY').read() }}",
    "strftime": "{{ strftime_now.__globals__ }}",
    "generator": "{{ (messages | map('upper')).gi_frame.f_globals }}",
}


def gguf(**values: Any) -> bytes:
    """Return a GGUF file with absurd numbers."""
    given = {"tensors": 0, "pairs": 0, "rest": b""} | values
    return b"GGUF" + struct.pack("<IQQ", 3, given["tensors"], given["pairs"]) + given["rest"]


def _text(text: bytes, claimed: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if claimed is None else claimed) + text


def _array(kind: int, length: int, rest: bytes = b"") -> bytes:
    return _text(b"general.architecture") + struct.pack("<IIQ", 9, kind, length) + rest


HUGE = (1 << 63) - 1
GGUFS = {
    "tensors without end": gguf(tensors=HUGE),
    "pairs without end": gguf(pairs=HUGE),
    "a text without end": gguf(pairs=1, rest=_text(b"k", HUGE)),
    "a list without end": gguf(pairs=1, rest=_array(4, HUGE)),
    "a list of texts": gguf(pairs=1, rest=_array(8, 1 << 40, _text(b"") * 1000)),
    "lists in lists": gguf(pairs=1, rest=_array(9, 1, struct.pack("<IQ", 9, 1) * 50_000)),
    "dimensions that overflow": gguf(
        tensors=1,
        rest=_text(b"token_embd.weight") + struct.pack("<IQQQQIQ", 4, 1 << 32, 1 << 32, 1 << 32, 1 << 32, 0, 0),
    ),
    "many dimensions": gguf(tensors=1, rest=_text(b"t") + struct.pack("<I", 0xFFFFFFFF)),
    "an offset outside": gguf(tensors=1, rest=_text(b"t") + struct.pack("<IQIQ", 1, 1 << 20, 0, HUGE - 31)),
    "an unknown kind of value": gguf(pairs=1, rest=_text(b"k") + struct.pack("<I", 77)),
    "version 4 billion": b"GGUF" + struct.pack("<IQQ", 0xFFFFFFFF, 1, 1),
}


def gzip_bomb(path: Path) -> Path:
    """Write 3 GB of spaces as 3 MB of gzip."""
    with gzip.open(path, "wb", compresslevel=9) as out:
        block = b'{"prompt": "' + b"a" * (1 << 20)
        for _ in range(3 << 10):
            out.write(block)
    return path


def parquet_bomb(path: Path) -> Path:
    """Write 20 GB of text as 2 MB of Parquet: a dictionary of one long word, and how often it stands there."""
    word = "x" * 2_000_000
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int32()), pa.array([word]))
    pq.write_table(pa.table({"prompt": column, "completion": column}), path, compression="snappy")
    return path


def yaml_bomb() -> str:
    """Return ten lines that mean 10^9 leaves."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    return "\n".join([*lines, "data: *a8", ""])
