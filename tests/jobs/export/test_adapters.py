"""Every kind of adapter, exported: certified in the form that it can have, and refused by name in the others."""

from pathlib import Path

import pytest
import torch
from tests.jobs.export.made import export, logits, trained
from tests.model.adapters import CASES
from transformers import AutoModelForCausalLM

from luthier.core.errors import RecipeError
from luthier.jobs.chat import spoken_by
from luthier.jobs.export.opened import open_export
from luthier.model.adapter import load_tuned
from luthier.model.adapters.qlora import ROUNDED_BASE

BESIDE = [name for name, spec in CASES.items() if not spec.traits.whole]


@pytest.mark.parametrize("case", ["lora-dora", "qlora", "ia3", "bottleneck", "prompt_tuning", "llama_adapter"])
def test_the_adapter_alone_says_what_the_tuned_model_says(case: str, tmp_path: Path) -> None:
    given = trained(tmp_path, "llama", CASES[case])
    exported = export(given, tmp_path / "export", "adapter").exported[0]
    certificate = exported.certificates["model"]
    assert certificate.result == "passed", certificate.reasons
    assert certificate.divergence.base_mean > 100 * certificate.divergence.mean
    assert (ROUNDED_BASE in exported.files) == (case == "qlora")
    opened = open_export(exported.folder)
    try:
        said = "".join(spoken_by(opened.engine, [20, 21, 22], 5, opened.adapter()))
    finally:
        opened.engine.close()
    assert isinstance(said, str) and opened.adapter() is None


@pytest.mark.parametrize("case", BESIDE)
def test_merged_says_the_same_or_is_refused_with_the_reason(case: str, tmp_path: Path) -> None:
    given = trained(tmp_path, "llama", CASES[case])
    why = CASES[case].traits.unmergeable
    if why:
        for form in ("merged", "onnx", "gguf", "bundle"):
            with pytest.raises(RecipeError, match=f"`{form}` cannot be made of this adapter") as refused:
                export(given, tmp_path / "export", form)
            assert refused.value.why == why and "adapter" in refused.value.hint
        return
    exported = export(given, tmp_path / "export", "merged").exported[0]
    assert exported.certificates["model"].result == "passed"
    merged = AutoModelForCausalLM.from_pretrained(exported.folder, dtype=torch.float32).eval()
    assert torch.allclose(logits(merged), logits(load_tuned(given.prepared.base.folder, given.weights)), atol=1e-4)


def test_last_layers_are_a_whole_model_and_no_adapter(tmp_path: Path) -> None:
    given = trained(tmp_path, "llama", CASES["freeze"])
    assert export(given, tmp_path / "export", "merged").exported[0].certificates["model"].result == "passed"
    with pytest.raises(RecipeError, match="`freeze` trains the model's own weights"):
        export(given, tmp_path / "export", "adapter")
