"""Adapters are read exactly, refused by name where they cannot be served, and stacked without mixing."""

import json
import random
from pathlib import Path

import pytest
import torch
from peft import IA3Config, get_peft_model
from safetensors.torch import load_file, save_file
from tests.serve.made import plain, save_adapter

from luthier.core.errors import ModelError
from luthier.serve.adapters import CONFIG, EMPTY, WEIGHTS, Adapter, Registry, Update, changed, read_adapter
from luthier.serve.lora import route_linears


@pytest.fixture(scope="module")
def base(offline) -> Path:
    return offline("llama").base


@pytest.fixture(scope="module")
def sizes(base):
    return route_linears(plain(base))[1]


@pytest.mark.parametrize("family", ["llama", "phi3", "gpt2"])
@pytest.mark.parametrize("options", [{}, {"r": 3, "lora_alpha": 5, "use_rslora": True}, {"task_type": "CAUSAL_LM"}])
def test_an_update_is_peft_s_own(offline, tmp_path, family, options) -> None:
    known = offline(family)
    folder = save_adapter(known.base, tmp_path / "a", **options)
    adapter = read_adapter(folder, route_linears(plain(known.base))[1])
    model = known.model(folder).base_model.model
    updated = {name for name, module in model.named_modules() if hasattr(module, "lora_A")}
    assert adapter.updates.keys() == updated and adapter.rank == options.get("r", 4)
    for name, update in adapter.updates.items():
        delta = model.get_submodule(name).get_delta_weight("default")
        delta = delta if family == "gpt2" else delta.t()
        assert torch.allclose(update.down_RK.t() @ update.up_RM, delta, atol=1e-5), name


def damage_nothing_there(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / CONFIG).unlink()


def damage_pickle_only(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    torch.save({}, folder / "adapter_model.bin")


def damage_cut_off(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def damage_not_json(folder: Path) -> None:
    (folder / CONFIG).write_text('{"r": ')


def damage_a_list(folder: Path) -> None:
    (folder / CONFIG).write_text("[]")


def damage_not_text(folder: Path) -> None:
    (folder / CONFIG).write_bytes(b"\xff\xfe\x00")


def changed_weights(folder: Path, change) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors, sorted(tensors)[0], sorted(tensors)[1])
    save_file(tensors, folder / WEIGHTS)


def damage_stray_tensor(folder: Path) -> None:
    changed_weights(folder, lambda tensors, a, b: tensors.update({"base_model.model.lm_head.weight": torch.ones(2, 2)}))


def damage_half_a_pair(folder: Path) -> None:
    changed_weights(folder, lambda tensors, a, b: tensors.pop(b))


def damage_no_tensors(folder: Path) -> None:
    changed_weights(folder, lambda tensors, a, b: tensors.clear())


def damage_not_a_number(folder: Path) -> None:
    changed_weights(folder, lambda tensors, a, b: tensors[b].fill_(float("nan")))


def damage_endless(folder: Path) -> None:
    changed_weights(folder, lambda tensors, a, b: tensors[a].fill_(float("inf")))


DAMAGE = {name.removeprefix("damage_"): act for name, act in list(globals().items()) if name.startswith("damage_")}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_folder_is_refused(base, sizes, tmp_path, damage) -> None:
    folder = save_adapter(base, tmp_path / "damaged")
    DAMAGE[damage](folder)
    with pytest.raises(ModelError) as caught:
        read_adapter(folder, sizes)
    assert caught.value.where["adapter"] == "damaged"


@pytest.mark.parametrize(
    "change",
    [
        {"peft_type": "IA3"}, {"peft_type": None}, {"bias": "all"}, {"r": 0}, {"r": 8}, {"r": "many"}, {"r": None},
        {"lora_alpha": None}, {"lora_alpha": "much"}, {"use_dora": True}, {"rank_pattern": {"q_proj": 2}},
        {"alpha_pattern": {"q_proj": 2}}, {"modules_to_save": ["lm_head"]}, {"lora_bias": True},
        {"init_lora_weights": "pissa_niter_4"}, {"init_lora_weights": "olora"}, {"layer_replication": [[0, 2]]},
        {"trainable_token_indices": [1]}, {"alora_invocation_tokens": [1]}, {"target_parameters": ["weight"]},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_plain_lora_is_refused(base, sizes, tmp_path, change) -> None:
    folder = save_adapter(base, tmp_path / "other")
    config = json.loads((folder / CONFIG).read_text()) | change
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(ModelError) as caught:
        read_adapter(folder, sizes)
    assert caught.value.where["adapter"] == "other"


@pytest.mark.parametrize("missing", ["r", "lora_alpha", "peft_type"])
def test_a_config_that_lacks_something_is_refused(base, sizes, tmp_path, missing) -> None:
    folder = save_adapter(base, tmp_path / "a")
    config = json.loads((folder / CONFIG).read_text())
    del config[missing]
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(ModelError):
        read_adapter(folder, sizes)


def test_real_dora_and_ia3_are_refused(base, sizes, tmp_path) -> None:
    dora = save_adapter(base, tmp_path / "dora", use_dora=True)
    ia3 = tmp_path / "ia3"
    config = IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])
    get_peft_model(plain(base), config).save_pretrained(ia3)
    for folder in (dora, ia3):
        with pytest.raises(ModelError, match="only plain LoRA"):
            read_adapter(folder, sizes)


@pytest.mark.parametrize("family", ["phi3", "gpt2"])
def test_an_adapter_of_another_base_is_refused(offline, sizes, tmp_path, family) -> None:
    folder = save_adapter(offline(family).base, tmp_path / "foreign")
    with pytest.raises(ModelError, match="not one of this base model"):
        read_adapter(folder, sizes)


LAYERS = {"a": (5, 7), "b": (3, 2), "c": (4, 4)}


def drawn(name: str, draw: random.Random) -> Adapter:
    rank, layers = draw.randrange(1, 5), draw.sample(sorted(LAYERS), draw.randrange(1, 4))
    updates = {
        layer: Update(torch.randn(rank, LAYERS[layer][0]), torch.randn(rank, LAYERS[layer][1])) for layer in layers
    }
    return Adapter(Path(name), rank, updates)


def check_holds(registry: Registry, adapters: dict[Path, Adapter]) -> None:
    """Each adapter's rows are its own update, or zero where it has none."""
    assert registry.places.keys() == adapters.keys()
    rows = sum(adapter.rank for adapter in adapters.values())
    assert sorted(place for pair in registry.places.values() for place in range(*pair)) == list(range(rows))
    for layer, stack in registry.stacks.items():
        assert stack.down_SK.shape == (rows, LAYERS[layer][0]) and stack.up_SM.shape == (rows, LAYERS[layer][1])
        for folder, (first, last) in registry.places.items():
            update = adapters[folder].updates.get(layer)
            down, up = stack.down_SK[first:last], stack.up_SM[first:last]
            assert torch.equal(down, update.down_RK) if update else not down.any()
            assert torch.equal(up, update.up_RM) if update else not up.any()
    assert {layer for adapter in adapters.values() for layer in adapter.updates} <= registry.stacks.keys()


def test_stacks_hold_what_was_added_and_not_dropped() -> None:
    draw, registry, adapters = random.Random(1), EMPTY, {}
    for number in range(200):
        drop = frozenset(folder for folder in adapters if draw.random() < 0.2)
        add = drawn(str(number), draw) if draw.random() < 0.6 else None
        before, was = registry, dict(adapters)
        registry = changed(registry, add=add, drop=drop)
        adapters = {folder: adapter for folder, adapter in adapters.items() if folder not in drop}
        if add is not None:
            adapters[add.folder] = add
        check_holds(registry, adapters)
        check_holds(before, was)
    assert registry.bytes == sum(4 * s.numel() for x in registry.stacks.values() for s in (x.down_SK, x.up_SM))


def test_the_last_one_gone_leaves_nothing() -> None:
    one = drawn("one", random.Random(2))
    registry = changed(changed(EMPTY, add=one), drop=frozenset([one.folder]))
    assert registry == EMPTY and registry.bytes == 0
