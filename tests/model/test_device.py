"""The hardware probe."""

import pytest
import torch

from luthier.model import device


@pytest.fixture(autouse=True)
def _forget() -> object:
    device.fast_dtype.cache_clear()
    yield
    device.fast_dtype.cache_clear()


def test_hardware_is_plausible_and_in_bytes() -> None:
    found = device.hardware()
    assert found.cores >= 1 and found.cpu
    assert 1 << 28 < found.available_bytes <= found.memory_bytes
    assert found.fast_dtype in ("fp32", "bf16", "fp16") and found.fast_dtype_because


@pytest.mark.parametrize(("bf16_seconds", "expected"), [(0.5, "bf16"), (0.9, "fp32"), (2.0, "fp32")])
def test_half_precision_must_be_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, bf16_seconds: float, expected: str
) -> None:
    monkeypatch.setattr(device, "torch_device", lambda: torch.device("cpu"))
    seconds = {torch.float32: 1.0, torch.bfloat16: bf16_seconds}
    monkeypatch.setattr(device, "_matmul_seconds", lambda _, dtype: seconds[dtype])
    dtype, because = device.fast_dtype()
    assert dtype == expected
    assert f"{1 / bf16_seconds:.2f}" in because


@pytest.mark.parametrize(
    ("bf16", "fp16", "expected"), [(0.2, 0.19, "bf16"), (1.5, 0.2, "fp16"), (0.9, 0.8, "fp32"), (0.5, 0.7, "bf16")]
)
def test_a_gpu_is_timed_too_and_one_that_only_imitates_bf16_takes_fp16(
    monkeypatch: pytest.MonkeyPatch, bf16: float, fp16: float, expected: str
) -> None:
    monkeypatch.setattr(device, "torch_device", lambda: torch.device("cuda"))
    seconds = {torch.float32: 1.0, torch.bfloat16: bf16, torch.float16: fp16}
    monkeypatch.setattr(device, "_matmul_seconds", lambda _, dtype: seconds[dtype])
    assert device.fast_dtype()[0] == expected


def test_the_probe_runs_once_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(device, "torch_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(device, "_matmul_seconds", lambda *_: calls.append(1) or 1.0)
    assert device.hardware().fast_dtype == device.hardware().fast_dtype
    assert len(calls) == 2
