"""Olive's `auto-opt` and `generate-adapter`, as `luthier export` would be asked."""

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from luthier.core.errors import RecipeError
from luthier.export.spec import ExportName, Form, Target
from luthier.jobs.export.door import Wanted
from luthier.recipe_io.explain import closest

PROVIDERS: dict[str, Target] = {
    "CPUExecutionProvider": "cpu",
    "CUDAExecutionProvider": "cuda",
    "DmlExecutionProvider": "dml",
    "WebGpuExecutionProvider": "webgpu",
    "NvTensorRTRTXExecutionProvider": "trt-rtx",
}
NOT_BUILT = {
    "QNNExecutionProvider": "Qualcomm's NPUs",
    "OpenVINOExecutionProvider": "Intel's OpenVINO",
    "VitisAIExecutionProvider": "AMD's NPUs",
}
"""Providers whose models ONNX Runtime GenAI's builder does not write."""
DEVICES: dict[str, tuple[Target, ...]] = {"cpu": ("cpu",), "gpu": ("cuda", "dml", "webgpu", "trt-rtx")}
PRECISIONS: dict[str, ExportName] = {"fp32": "onnx", "fp16": "onnx", "int8": "onnx-int8", "int4": "onnx-int4"}
REMOTE_CODE = "code in model repositories never runs here; a model that needs it is refused"


@dataclass(frozen=True)
class AutoOpt:
    """The options of `auto-opt`."""

    model: str
    output: Path
    adapter: str | None = None
    device: str = "cpu"
    provider: str | None = None
    precision: str = "fp32"


def auto_opt(asked: AutoOpt) -> Wanted:
    """Return what to export for `auto-opt`."""
    name = PRECISIONS[_known(asked.precision, PRECISIONS, "--precision")]
    target = _target(asked)
    if asked.precision == "fp16" and target == "cpu":
        hint = "take fp32, int8 or int4"
        raise RecipeError("fp16 is not for the CPU", where={"option": "--precision"}, hint=hint)
    adapters = (asked.adapter,) if asked.adapter else ()
    return Wanted(forms=(Form(name=name, target=target),), base=asked.model, adapters=adapters, out=asked.output)


def _target(asked: AutoOpt) -> Target:
    """Return the one target that device and provider name."""
    if asked.device == "npu" or asked.provider in NOT_BUILT:
        maker = NOT_BUILT.get(asked.provider or "", "NPUs")
        why = f"ONNX Runtime GenAI's builder writes no models for {maker}"
        hint = "build for the CPU, and convert that with the maker's own tools"
        raise RecipeError("this device cannot be built for", where={"option": "--device"}, why=why, hint=hint)
    of_device = DEVICES[_known(asked.device, DEVICES, "--device")]
    if asked.provider is None:
        return of_device[0]
    target = PROVIDERS[_known(asked.provider, PROVIDERS, "--provider")]
    if target not in of_device:
        hint = f"for {asked.device}: {', '.join(name for name, one in PROVIDERS.items() if one in of_device)}"
        what = f"`{asked.provider}` does not run on `{asked.device}`"
        raise RecipeError(what, where={"option": "--provider"}, hint=hint)
    return target


def _known(value: str, known: dict[str, str] | dict[str, Target] | dict[str, tuple[Target, ...]], option: str) -> str:
    if value in known:
        return value
    folded = {name.casefold(): name for name in known}
    near = folded.get(closest(value.casefold(), list(folded)) or "")
    hint = (f"did you mean `{near}`? " if near else "") + f"there are {', '.join(known)}"
    raise RecipeError(f"`{value}` is not known", where={"option": option}, hint=hint)


def generate_adapter(base: str, adapters: str, output: Path, precision: str = "fp32") -> Wanted:
    """Return what to export for `generate-adapter`: one ONNX model with several adapters."""
    names = tuple(name.strip() for name in adapters.split(",") if name.strip())
    if not names:
        raise RecipeError("no adapter is named", where={"option": "--adapter_paths"}, hint="a,b")
    name = PRECISIONS[_known(precision, PRECISIONS, "--precision")]
    if precision == "fp16":
        raise RecipeError("fp16 is not for the CPU", where={"option": "--precision"}, hint="take fp32, int8 or int4")
    return Wanted(forms=(Form(name=name),), base=base, adapters=names, out=output)


def as_command(wanted: Wanted) -> str:
    """Return the command of this house that asks the same."""
    form = (wanted.forms or ())[0]
    words = ["luthier export", f"--base {wanted.base}"]
    words += [f"--adapters {','.join(wanted.adapters)}"] if wanted.adapters else []
    words += [f"--to {form.name}"] + ([f"--target {form.target}"] if form.target != get_args(Target)[0] else [])
    return " ".join([*words, f"--out {wanted.out}"])
