"""Which parts suffer from few bits, and the forms that `auto` makes of it."""

import pytest
import torch
from tests.jobs.export.made import trained

from luthier.jobs.export import auto
from luthier.jobs.export import sensitivity as module
from luthier.jobs.export.auto import _groups
from luthier.jobs.export.sensitivity import rounded, sensitivity
from luthier.jobs.export.source import Most, source_of_run
from luthier.model.adapters.lora import LoraSpec


def quiet(event) -> None:
    pass


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory):
    return trained(tmp_path_factory.mktemp("sensitive"), "llama", LoraSpec(r=4))


def test_rounding_keeps_what_four_bits_can_say() -> None:
    scale = torch.tensor([[0.5], [2.0]])
    exact = torch.arange(-8, 8).repeat(2, 2).float() * scale
    assert torch.equal(rounded(exact, 32), exact)
    weight = torch.randn(3, 50, generator=torch.Generator().manual_seed(1))
    made = rounded(weight, 16)
    # Of a block, the largest weight is kept, and no other is off by more than half a step.
    for start in range(0, 50, 16):
        block, kept = weight[:, start : start + 16], made[:, start : start + 16]
        steps = block.abs().max(dim=-1, keepdim=True).values / 8
        assert (block - kept).abs().max() <= steps.max() * 1.001
        largest = block.abs().argmax(dim=-1, keepdim=True)
        assert torch.allclose(block.gather(-1, largest), kept.gather(-1, largest))
    assert torch.equal(rounded(torch.zeros(2, 16), 16), torch.zeros(2, 16))


def test_each_part_is_measured_and_put_back(given, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of_run(given, None, quiet, prompts=Most(4))
    found = sensitivity(source, given.prepared, quiet)
    assert set(found) == {"0", "1", "head"} and list(found.values()) == sorted(found.values(), reverse=True)
    # A part that rounding leaves as it is costs nothing: so all others were put back.
    monkeypatch.setattr(module, "rounded", lambda weight, block_size: weight)
    assert set(sensitivity(source, given.prepared, quiet).values()) == {0.0}


@pytest.mark.parametrize("tied", [True, False])
def test_auto_makes_the_parts_that_suffer_wider(tied: bool, given, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "read_json", lambda path: {"tie_word_embeddings": tied})
    source = source_of_run(given, None, quiet, prompts=Most(4))
    groups = [list(group) for group in _groups(source, given.prepared, quiet)]
    worst = next(iter(sensitivity(source, given.prepared, quiet)))
    wider = [form.wider for group in groups for form in group if form.wider]
    assert wider[0] == wider[1] == (worst,)
    assert [set(parts) for parts in wider[2:]] == ([] if tied else [{"0", "1", "head"}])
    assert [form.name for form in groups[-2]] == ["onnx-int8", "gguf-q8_0"]
    assert [form.name for form in groups[-1]] == ["onnx", "gguf", "merged"]
    assert all(not form.wider for group in _groups(source, None, quiet) for form in group)
