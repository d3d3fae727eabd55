"""The ONNX builder in this process: what each child would load anew, for seconds, is loaded once."""

import runpy
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
from tests.sizes import IN_FULL

from luthier.core.errors import ModelError
from luthier.export.formats import onnx


def run(command: list[str], merged: Path) -> str:
    """Run the builder as its child process would."""
    module, *arguments = command[3:]
    try:
        with patch.object(sys, "argv", [module, *arguments]):
            runpy.run_module(module, run_name="__main__")
    except Exception as error:
        raise ModelError("the ONNX model cannot be built", where={"model": merged}, why=str(error)) from error
    return ""


def build_here(patching: pytest.MonkeyPatch) -> None:
    """Let builders run in this process, but for the full sizes."""
    if not IN_FULL:
        patching.setattr(onnx, "_run", run)
