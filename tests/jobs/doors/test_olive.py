"""Olive's export commands in this house's words."""

from pathlib import Path

import pytest

from luthier.core.errors import RecipeError
from luthier.export.spec import Form
from luthier.jobs.doors.olive import AutoOpt, as_command, auto_opt, generate_adapter

OUT = Path("models/onnx")


@pytest.mark.parametrize(
    ("changes", "form"),
    [
        ({}, Form(name="onnx")),
        ({"provider": "CPUExecutionProvider", "precision": "int4"}, Form(name="onnx-int4")),
        ({"device": "gpu"}, Form(name="onnx", target="cuda")),
        (
            {"device": "gpu", "provider": "DmlExecutionProvider", "precision": "int8"},
            Form(name="onnx-int8", target="dml"),
        ),
    ],
)
def test_auto_opt_becomes_an_export(changes, form: Form) -> None:
    wanted = auto_opt(AutoOpt("base", OUT, adapter="adapter", **changes))
    assert wanted.forms == (form,) and wanted.base == "base" and wanted.adapters == ("adapter",) and wanted.out == OUT


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"device": "npu"}, "cannot be built for"),
        ({"provider": "QNNExecutionProvider"}, "cannot be built for"),
        ({"device": "tpu"}, "`tpu` is not known"),
        ({"provider": "CUDAExecutionProvider"}, "does not run on `cpu`"),
        ({"precision": "fp16"}, "fp16 is not for the CPU"),
        ({"precision": "int3"}, "`int3` is not known"),
    ],
)
def test_what_cannot_be_translated_is_refused_by_name(changes, what: str) -> None:
    with pytest.raises(RecipeError, match=what):
        auto_opt(AutoOpt("base", OUT, **changes))


def test_a_misspelt_provider_is_guessed() -> None:
    with pytest.raises(RecipeError) as caught:
        auto_opt(AutoOpt("base", OUT, provider="cpuExecutionprovidr"))
    assert "did you mean `CPUExecutionProvider`?" in caught.value.hint


def test_generate_adapter_becomes_an_export_with_adapters() -> None:
    wanted = generate_adapter("models/base", "adapters/a, adapters/b", OUT)
    assert wanted.adapters == ("adapters/a", "adapters/b") and wanted.forms == (Form(name="onnx"),)
    assert as_command(wanted) == (
        "luthier export --base models/base --adapters adapters/a,adapters/b --to onnx --out models/onnx"
    )
    with pytest.raises(RecipeError, match="no adapter is named"):
        generate_adapter("models/base", " ", OUT)
