"""Every kind of adapter, exported: certified in the form that it can have, and refused by name in the others."""

from pathlib import Path

import pytest
import torch
from tests.export.wide import save_wide
from tests.jobs.export.made import export, logits, trained
from tests.model.adapters import CASES, push
from transformers import AutoModelForCausalLM

from luthier.core.artifacts import Trained
from luthier.core.errors import RecipeError
from luthier.export.spec import Form
from luthier.jobs.chat import spoken_by
from luthier.jobs.export.door import Wanted, export_wanted
from luthier.jobs.export.opened import open_export
from luthier.model.adapter import load_tuned
from luthier.model.adapters.lora import LoraSpec
from luthier.model.adapters.qlora import ROUNDED_BASE
from luthier.model.load import load_model, load_tokenizer

PROMPT = [20, 21, 22]
BESIDE = [name for name, spec in CASES.items() if not spec.traits.whole]


def greedy(given: Trained, count: int) -> list[int]:
    """Return the likeliest tokens after the prompt, one at a time, each from a whole pass."""
    tuned, ids = load_tuned(given.prepared.base.folder, given.weights), list(PROMPT)
    for _ in range(count):
        with torch.inference_mode():
            ids.append(int(tuned(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(PROMPT) :]


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
        said = "".join(spoken_by(opened.engine, PROMPT, 5, opened.adapter()))
        written = load_tokenizer(given.prepared.base.folder).decode(greedy(given, 5))
    finally:
        opened.engine.close()
    assert said and said == written and opened.adapter() is None


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


def test_one_adapter_that_no_switch_takes_is_merged_for_onnx(tmp_path: Path) -> None:
    base, adapter = save_wide(tmp_path / "base"), LoraSpec(r=4, dora=True).build()
    model = adapter.attach(load_model(base), seed=1)
    push(model)
    (tmp_path / "weights").mkdir()
    adapter.save(model, tmp_path / "weights", base_model=str(base))
    wanted = Wanted((Form(name="onnx"),), base=str(base), adapters=(str(tmp_path / "weights"),), out=tmp_path / "out")
    [exported] = export_wanted(wanted, lambda event: None).exported
    certificate = exported.certificates["model"]
    assert list(exported.certificates) == ["model"] and certificate.result == "passed", certificate.reasons
    assert certificate.divergence.base_mean > 100 * certificate.divergence.mean
