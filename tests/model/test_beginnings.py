"""What updates begin with: EVA's directions are PEFT's own, and LoftQ gives back what rounding took."""

from pathlib import Path

import pytest
import torch
from peft import EvaConfig, LoraConfig
from peft.tuners.lora.eva import get_eva_state_dict
from tests.model.adapters import Tuned

from luthier.model.adapters.lora import LoraSpec
from luthier.model.adapters.qlora import QloraSpec
from luthier.model.adapting.by_peft import NAME
from luthier.model.adapting.eva import begin_from_rows
from luthier.model.load import load_model

IDS = torch.randint(0, 200, (6, 24), generator=torch.Generator().manual_seed(0))
ROWS = [row[: 24 - 3 * i].tolist() for i, row in enumerate(IDS)]


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=IDS).logits


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_eva_begins_as_the_base_along_pefts_own_directions(tmp_path: Path, family: str) -> None:
    tuned = Tuned(tmp_path, family, LoraSpec(r=4, init="eva"), moved=False)
    base = load_model(tuned.base)
    drawn = {name: weight.clone() for name, weight in tuned.model.named_parameters() if "lora_A" in name}
    assert begin_from_rows(tuned.model, ROWS) == len(drawn)
    assert torch.equal(logits(tuned.model), logits(base))

    batch = torch.zeros(len(ROWS), 24, dtype=torch.long), torch.zeros(len(ROWS), 24, dtype=torch.long)
    for place, row in enumerate(ROWS):
        batch[0][place, : len(row)], batch[1][place, : len(row)] = torch.tensor(row), 1
    layers = tuned.model.peft_config[NAME].target_modules
    config = LoraConfig(r=4, init_lora_weights="eva", eva_config=EvaConfig(rho=1.0), target_modules=layers)
    batches = [{"input_ids": batch[0], "attention_mask": batch[1]}]
    theirs = get_eva_state_dict(base, batches, config, show_progress_bar=False)
    ours = {name: weight for name, weight in tuned.model.named_parameters() if "lora_A" in name}
    assert len(theirs) == len(ours)
    for name, directions in theirs.items():
        found = ours[f"base_model.model.{name}.lora_A.{NAME}.weight"]
        assert torch.allclose(found @ found.t(), torch.eye(4), atol=1e-4)
        # Directions have no sign; PEFT's are estimates, and the last ones mix with what is left out.
        alike = found.detach() @ directions.float().t()
        assert float(alike[0, 0].abs()) > 0.98 and float(torch.linalg.svdvals(alike)[1]) > 0.98, name


def test_eva_is_the_same_each_time_and_of_its_rows(tmp_path: Path) -> None:
    begun = []
    for rows in (ROWS, ROWS, ROWS[3:]):
        tuned = Tuned(tmp_path, "llama", LoraSpec(r=4, init="eva"), moved=False)
        begin_from_rows(tuned.model, rows)
        begun.append(torch.cat([w.flatten() for n, w in tuned.model.named_parameters() if "lora_A" in n]))
    assert torch.equal(begun[0], begun[1]) and not torch.allclose(begun[0], begun[2], atol=1e-2)


def test_loftq_gives_back_a_part_of_what_rounding_took(tmp_path: Path) -> None:
    plain = Tuned(tmp_path, "llama", QloraSpec(r=4), moved=False)
    begun = Tuned(tmp_path, "llama", QloraSpec(r=4, init="loftq"), moved=False)
    base = load_model(begun.base)
    layers, compared = dict(base.named_modules()), 0
    for name, layer in begun.model.get_base_model().named_modules():
        if hasattr(layer, "lora_A"):
            whole, rounded = layers[name].weight, layer.get_base_layer().weight
            lost = (whole - rounded).norm()
            sizes = torch.linalg.svdvals(whole.detach() - rounded)
            left = (whole.detach() - rounded - layer.get_delta_weight(NAME)).norm()
            assert float(left) == pytest.approx(float(sizes[4:].norm()), rel=1e-3) and bool(left < 0.95 * lost)
            compared += 1
    assert compared > 10
    errors = [float((logits(one.model) - logits(base)).norm()) for one in (plain, begun)]
    assert errors[1] < errors[0]
