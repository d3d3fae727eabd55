"""Each row of a batch gets the update of its own adapter, and nothing of the others'."""

from pathlib import Path

import pytest
import torch
from tests.serve.made import plain
from transformers.pytorch_utils import Conv1D

from luthier.serve.adapters import EMPTY, Adapter, Registry, Update, changed
from luthier.serve.lora import Route, RoutedLinear, route_linears

INPUTS, OUTPUTS, NAME = 6, 9, "layer"
A, B, C = Path("a"), Path("b"), Path("c")


def made(kind: str, *, bias: bool = True) -> torch.nn.Module:
    if kind == "conv1d":
        return Conv1D(OUTPUTS, INPUTS)
    return torch.nn.Linear(INPUTS, OUTPUTS, bias=bias)


def update(rank: int) -> Update:
    return Update(torch.randn(rank, INPUTS), torch.randn(rank, OUTPUTS))


@pytest.fixture
def updates() -> dict[Path, Update]:
    return {A: update(2), B: update(1), C: update(4)}


def registry_of(updates: dict[Path, Update], layer: str = NAME) -> Registry:
    registry = EMPTY
    for folder, one in updates.items():
        registry = changed(registry, add=Adapter(folder, one.down_RK.shape[0], {layer: one}))
    return registry


def expected(layer: torch.nn.Module, x: torch.Tensor, one: Update | None) -> torch.Tensor:
    y = layer(x)
    return y if one is None else y + x @ one.down_RK.t() @ one.up_RM


@pytest.mark.parametrize("kind", ["linear", "conv1d"])
@pytest.mark.parametrize("whose", [(None,), (A,), (C, C), (None, None), (A, B, None, C), (C, A), (B, None, B)], ids=str)
def test_rows_have_their_own_updates(updates, kind, whose) -> None:
    layer, route = made(kind), Route()
    routed = RoutedLinear(layer, NAME, route)
    route.direct(registry_of(updates), [(folder, 1) for folder in whose])
    x = torch.randn(len(whose), 1, INPUTS)
    with torch.inference_mode():
        y = routed(x)
        for place, folder in enumerate(whose):
            assert torch.allclose(y[place], expected(layer, x[place], updates.get(folder)), atol=1e-5)
    assert routed.size == (INPUTS, OUTPUTS)


def test_a_prompt_s_tokens_all_have_its_adapter(updates) -> None:
    layer, route = made("linear", bias=False), Route()
    x = torch.randn(1, 11, INPUTS)
    with torch.inference_mode():
        for folder in (A, None, C):
            route.direct(registry_of(updates), [(folder, 11)])
            y = RoutedLinear(layer, NAME, route)(x)
            assert torch.allclose(y, expected(layer, x, updates.get(folder)), atol=1e-5)


def test_layers_that_no_adapter_updates_are_the_base_s(updates) -> None:
    layer, route = made("linear"), Route()
    route.direct(registry_of(updates, "another"), [(A, 1), (None, 1)])
    x = torch.randn(2, 1, INPUTS)
    with torch.inference_mode():
        assert torch.allclose(RoutedLinear(layer, NAME, route)(x), layer(x), atol=1e-6)


def test_what_overflows_for_one_row_is_nothing_to_the_others(updates) -> None:
    updates[B] = Update(torch.full((1, INPUTS), 3e38), torch.randn(1, OUTPUTS))
    layer, route = made("linear"), Route()
    route.direct(registry_of(updates), [(folder, 1) for folder in (A, B, None, C)])
    x = torch.ones(4, 1, INPUTS)
    with torch.inference_mode():
        y = RoutedLinear(layer, NAME, route)(x)
        for place, folder in ((0, A), (2, None), (3, C)):
            assert torch.allclose(y[place], expected(layer, x[place], updates.get(folder)), atol=1e-5)
    assert not y[1].isfinite().all()


SPANS = {
    "even": [(f"e{number}", 2) for number in range(4)],
    "turn by turn": [(f"e{number % 4}", 1) for number in range(12)],
    "uneven": [("e0", 3), ("e1", 1), (None, 2), ("e3", 2), ("e1", 1)],
    "a long one beside short ones": [("e0", 1), ("e1", 1), ("e2", 90), ("e3", 1)],
    "two ranks": [("e3", 2), ("f0", 2), ("f1", 1), ("e2", 1), (None, 1)],
    "gaps": [("f1", 2), ("e0", 1), ("e2", 2)],
}


@pytest.mark.parametrize("name", SPANS)
def test_adapters_side_by_side_are_computed_together(name) -> None:
    updates = {Path(f"{kind}{number}"): update(rank) for kind, rank in (("e", 4), ("f", 2)) for number in range(4)}
    layer, route, spans = made("linear"), Route(), [(folder and Path(folder), rows) for folder, rows in SPANS[name]]
    whose = [folder for folder, rows in spans for _ in range(rows)]
    x = torch.randn(1, len(whose), INPUTS)
    route.direct(registry_of(updates), spans, [whose[-1], None, whose[0]])
    with torch.inference_mode():
        y = RoutedLinear(layer, NAME, route)(x)
        head = RoutedLinear(layer, NAME, route, is_head=True)(x[:, :3])
        for row, folder in enumerate(whose):
            assert torch.allclose(y[0, row], expected(layer, x[0, row], updates.get(folder)), atol=1e-4)
        for row, folder in enumerate((whose[-1], None, whose[0])):
            assert torch.allclose(head[0, row], expected(layer, x[0, row], updates.get(folder)), atol=1e-4)


def test_few_rows_are_computed_in_vain() -> None:
    updates = {Path(str(number)): update(2) for number in range(8)}
    route, registry = Route(), registry_of(updates)
    route.direct(registry, [(folder, 2) for folder in updates])
    assert [group.count for group in route.groups] == [8]
    route.direct(registry, [(folder, 100 if number == 3 else 1) for number, folder in enumerate(updates)])
    assert [group.count for group in route.groups] == [3, 1, 4]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_model_s_layers_are_exchanged_and_say_the_same(offline, family) -> None:
    model, ids = plain(offline(family).base), torch.tensor([[1, 2, 3, 4]])
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        _, sizes = route_linears(model)
        after = model(input_ids=ids).logits
    assert torch.allclose(before, after, atol=1e-5)
    left = {type(module) for module in model.modules()}
    assert RoutedLinear in left and not left & {torch.nn.Linear, Conv1D} and "lm_head" in sizes
