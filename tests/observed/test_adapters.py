"""Every option of an adapter changes which weights train, how they begin, or what the model then says."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from tests.model.adapters import push
from tests.observed.seen import Cases, Change, alike, unseen

from luthier.model.adapters.boft import BoftSpec
from luthier.model.adapters.bottleneck import BottleneckSpec
from luthier.model.adapters.freeze import FreezeSpec
from luthier.model.adapters.full import FullSpec
from luthier.model.adapters.ia3 import Ia3Spec
from luthier.model.adapters.llama_adapter import LlamaAdapterSpec
from luthier.model.adapters.ln_tuning import LnTuningSpec
from luthier.model.adapters.lora import LoraSpec
from luthier.model.adapters.oft import OftSpec
from luthier.model.adapters.p_tuning import PTuningSpec
from luthier.model.adapters.prefix_tuning import PrefixTuningSpec
from luthier.model.adapters.prompt_tuning import PromptTuningSpec
from luthier.model.adapters.qlora import QloraSpec
from luthier.model.adapters.union import AdapterSpec
from luthier.model.adapters.vera import VeraSpec
from luthier.model.load import load_model
from luthier.model.tiny import save_tiny

IDS = torch.randint(0, 200, (2, 12), generator=torch.Generator().manual_seed(0))
STARTED = "a LoRA of rank 4"
"""Stands for the folder of one that was trained before."""
USUAL: dict[type, dict[str, Any]] = {
    LoraSpec: {"r": 4},
    QloraSpec: {"r": 4},
    VeraSpec: {"r": 8},
    OftSpec: {"block_size": 8},
    LlamaAdapterSpec: {"layers": 1},
    FreezeSpec: {"layers": 1},
}
CASES: Cases = {
    LoraSpec: {
        "r": 2,
        "alpha": 3.0,
        "dropout": 0.5,
        "target_modules": ("q_proj",),
        "init": "gaussian",
        "rslora": True,
        "dora": True,
        "rank_pattern": {"q_proj": 2},
        "alpha_pattern": {"q_proj": 3.0},
        "modules_to_save": ("input_layernorm",),
        "start_from": STARTED,
    },
    QloraSpec: {
        "r": 2,
        "alpha": 3.0,
        "dropout": 0.5,
        "target_modules": ("q_proj",),
        "block_size": 32,
        "init": "loftq",
        "double": False,
    },
    VeraSpec: {"r": 4, "d_initial": 0.5, "dropout": 0.5, "target_modules": ("q_proj",)},
    Ia3Spec: {
        "target_modules": ("q_proj",),
        "feedforward_modules": Change(("down_proj",), {"target_modules": ("q_proj", "down_proj")}),
    },
    OftSpec: {"block_size": 16, "target_modules": ("q_proj",)},
    BoftSpec: {"block_size": 8, "factors": 2, "target_modules": ("q_proj",)},
    LnTuningSpec: {},
    BottleneckSpec: {"size": 8, "placement": "pfeiffer", "activation": "gelu"},
    PromptTuningSpec: {
        "virtual_tokens": 5,
        "init": "random",
        "text": Change("say it", {"init": "text", "text": "or do not"}),
    },
    PrefixTuningSpec: {"virtual_tokens": 5, "projection": 8},
    PTuningSpec: {"virtual_tokens": 5, "encoder": "lstm", "hidden": 8},
    LlamaAdapterSpec: {"prompt_tokens": 4, "layers": 2},
    FreezeSpec: {"layers": 2, "head": True},
    FullSpec: {},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("base"), "llama")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, base: Path) -> str:
    """A LoRA that was trained before."""
    folder = tmp_path_factory.mktemp("started")
    adapter = LoraSpec(r=4).build()
    model = adapter.attach(load_model(base), seed=9)
    push(model)
    adapter.save(model, folder, base_model="tiny")
    return str(folder)


def shown_by(spec: AdapterSpec, base: Path) -> dict[str, Any]:
    """Return the trained weights, and what the model says at the start, with moved weights, and while it trains."""
    model = spec.build().attach(load_model(base), seed=1)
    weights = {name: weight.tolist() for name, weight in model.named_parameters() if weight.requires_grad}
    fresh = said_by(model.eval())
    push(model)
    moved, training = said_by(model), said_by(model.train())
    return {"weights": weights, "fresh": fresh, "moved": moved, "training": training}


def said_by(model: torch.nn.Module) -> list[Any]:
    torch.manual_seed(3)
    with torch.no_grad():
        return model(input_ids=IDS).logits.tolist()


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
def test_every_option_of_an_adapter_is_seen_in_the_model(kind: type, base: Path, started: str) -> None:
    changes = {name: started if value == STARTED else value for name, value in CASES[kind].items()}
    assert unseen(kind, changes, lambda spec: shown_by(spec, base), **USUAL.get(kind, {})) == []


def test_every_adapter_is_another_one(base: Path) -> None:
    kinds = get_args(get_args(AdapterSpec)[0])
    assert set(kinds) == set(CASES)
    assert alike({kind().name: shown_by(kind(**USUAL.get(kind, {})), base) for kind in kinds}) == []
