"""Every adapter that goes with a head: what moves; saved = loaded = merged."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from tests.model.adapters import CASES, push
from tests.train.headed import METHODS, prepare
from tests.train.made import same, weights_of
from tests.train.test_heads import quick, said

from luthier.core.errors import ModelError
from luthier.examples.store import Split
from luthier.model.adapter import load_tuned, merge
from luthier.model.adapters.lora import LoraSpec
from luthier.model.headed import head_parts, load_headed
from luthier.model.headstep import HeadStep
from luthier.recipe_io.heads import ADAPTERS_OF_NO_USE
from luthier.train.heads import head_card

FITTING = [case for case, spec in CASES.items() if spec.name not in ADAPTERS_OF_NO_USE]
LLAMA_ONLY = ("lora-patterns", "lora-whole-parts")
"""Their options name layers of Llama."""


@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize("case", FITTING)
def test_saved_is_loaded_and_merged(tmp_path: Path, case: str, family: str, capfd: pytest.CaptureFixture[str]) -> None:
    spec, kind = CASES[case], "spans" if case == "vera" and family == "bert" else "label"
    given = prepare(tmp_path, kind, family)
    train = Split(given.split("train"))
    card = head_card(METHODS[kind](), given, train)
    adapter, base = spec.build(), load_headed(given.base.folder, card, seed=1)
    heads = list(head_parts(base))
    if case in LLAMA_ONLY and family == "bert":
        with pytest.raises(ModelError, match="no layer called"):
            adapter.attach(base, seed=1)
        return
    model = adapter.attach(base, seed=1)
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    for name in heads:
        assert any(f"{name}." in one for one in trained), "the head is new, and must learn"
    if not spec.traits.whole:
        assert len(trained) < len(list(model.parameters()))
    rows = [train.encoded(row) for row in range(4)]
    before = outputs(model, card, rows)
    push(model)
    moved = outputs(model, card, rows)
    assert not torch.allclose(before, moved, atol=1e-3)

    weights = tmp_path / "weights"
    weights.mkdir()
    capfd.readouterr()
    adapter.save(model, weights, base_model="tiny")
    assert capfd.readouterr() == ("", ""), "the library's own bars are not for people"
    card.write(weights)
    loaded = load_tuned(given.base.folder, weights)
    assert torch.allclose(outputs(loaded, card, rows), moved, atol=1e-5)
    if spec.traits.unmergeable:
        with pytest.raises(ModelError, match="cannot be added"):
            merge(loaded)
        return
    plain = merge(loaded)
    assert not isinstance(plain, PeftModel) and torch.allclose(outputs(plain, card, rows), moved, atol=1e-4)


@torch.no_grad()
def outputs(model: torch.nn.Module, card, rows) -> torch.Tensor:
    return HeadStep(model.eval(), card).logits(rows)


@pytest.mark.parametrize("case", ["lora-eva", "bottleneck", "freeze", "ia3", "qlora-loftq"])
def test_it_trains_through_the_one_loop(tmp_path: Path, case: str) -> None:
    given, trained, events = quick(tmp_path, "label", adapter=CASES[case], steps=6)
    assert len(said(given, trained.weights)) == 6
    shown = [event.message for event in events if "begin from what they read" in event.message]
    assert len(shown) == (case == "lora-eva")


def test_going_on_shows_no_rows_again(tmp_path: Path) -> None:
    import shutil

    usual = {"adapter": LoraSpec(r=4, init="eva"), "checkpoint_every": 4}
    _, whole, _ = quick(tmp_path, "label", steps=8, **usual)
    expected, again = weights_of(whole.folder), tmp_path / "again"
    shutil.copytree(whole.folder, again)
    shutil.rmtree(again / "weights")
    shutil.rmtree(again / "checkpoints" / "step-00000008")
    (again / "artifact.json").unlink()
    _, resumed, events = quick(tmp_path, "label", steps=8, out="again", **usual)
    assert same(expected, weights_of(resumed.folder))
    assert not any("begin from what they read" in event.message for event in events)
