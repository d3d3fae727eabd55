"""The fast step gives the plain step's loss and gradients, on every family."""

import random
import shutil

import pytest
import torch

from luthier.examples.store import Encoded
from luthier.model import attention
from luthier.model.adapters.full import FullSpec
from luthier.model.adapters.lora import LoraSpec
from luthier.model.step import FastStep, PlainStep
from luthier.model.tiny import FAMILIES, tiny_model


def rows_of(kind: str, count: int, vocabulary: int = 250) -> list[Encoded]:
    """Rows that share nothing, a long prefix, a tree of prefixes, or whole rows."""
    draw = random.Random(count)
    fresh = lambda n: [draw.randrange(vocabulary) for _ in range(n)]  # noqa: E731
    shared, branches = fresh(40), [fresh(12) for _ in range(3)]
    rows = []
    for i in range(count):
        head = {"nothing": [], "prefix": shared, "tree": shared + branches[i % 3], "twins": shared}[kind]
        body = shared[:5] if kind == "twins" and i % 2 else fresh(draw.randrange(3, 30))
        ids = [*head, *body, *fresh(3)]
        targets = [False] * (len(ids) - 4) + [True] * 3 + [False]
        if kind == "tree":
            targets[44] = True  # A target inside the shared part counts once per row.
        rows.append(Encoded(ids, targets, len(ids) - 4))
    return rows


def with_noise(model: torch.nn.Module) -> torch.nn.Module:
    """Make LoRA's B non-zero, so that every gradient is."""
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 0.02, generator=generator)
    return model


def loss_and_gradients(step, rows, micro_batch: int):
    """Return the mean loss and the gradients by name."""
    step.model.zero_grad()
    total, tokens = 0.0, 0
    for start in range(0, len(rows), micro_batch):
        part = step.target_loss(rows[start : start + micro_batch])
        part.total.backward()
        total, tokens = total + float(part.total.detach()), tokens + part.tokens
    grads = {n: w.grad / tokens for n, w in step.model.named_parameters() if w.grad is not None}
    return total / tokens, grads, tokens


@pytest.mark.parametrize("adapter", [LoraSpec(r=4), FullSpec()], ids=["lora", "full"])
@pytest.mark.parametrize("kind", ["nothing", "prefix", "tree", "twins"])
@pytest.mark.parametrize("family", FAMILIES)
def test_fast_step_is_the_plain_step(family, kind, adapter, record_property):
    rows = rows_of(kind, 8)

    def fresh():
        return with_noise(adapter.build().attach(tiny_model(family), seed=3))

    plain_loss, plain_grads, tokens = loss_and_gradients(PlainStep(fresh()), rows, 8)
    assert tokens == sum(sum(row.targets) for row in rows)
    scale = max(float(g.abs().max()) for g in plain_grads.values())
    worst_loss = worst_gradient = 0.0
    for share in (True, False):
        for micro_batch in (1, 4, 8):
            loss, grads, count = loss_and_gradients(FastStep(fresh(), share=share), rows, micro_batch)
            assert count == tokens
            assert grads.keys() == plain_grads.keys()
            worst_loss = max(worst_loss, abs(loss / plain_loss - 1))
            for name, grad in grads.items():
                size = max(float(plain_grads[name].norm()), 1e-2 * scale)
                worst_gradient = max(worst_gradient, float((grad - plain_grads[name]).norm()) / size)

    record_property("claim", f"Fast step = plain step, {family}: packed, prefix-shared, micro-batches of 1, 4 and 8")
    record_property("relative_loss_difference", worst_loss)
    record_property("relative_gradient_difference", worst_gradient)
    assert worst_loss <= 1e-5 and worst_gradient <= 1e-4


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_kernels_change_nothing(precision):
    if shutil.which("c++") is None:
        pytest.skip("there is no C++ compiler to compile with")
    rows = rows_of("tree", 6)

    def fresh():
        return with_noise(LoraSpec(r=4).build().attach(tiny_model("qwen3"), seed=3))

    plain, plain_grads, _ = loss_and_gradients(FastStep(fresh(), precision=precision), rows, 6)
    compiled, grads, _ = loss_and_gradients(FastStep(fresh(), precision=precision, compiled=True), rows, 6)
    tolerance = {"fp32": 1e-5, "bf16": 3e-2}[precision]
    assert compiled == pytest.approx(plain, rel=tolerance)
    for name, grad in grads.items():
        assert float((grad - plain_grads[name]).norm()) <= 10 * tolerance * float(plain_grads[name].norm()) + 1e-6, name


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_probabilities_computed_again_are_the_kept_ones(family, monkeypatch):
    rows = rows_of("tree", 6)

    def measured():
        return loss_and_gradients(
            FastStep(with_noise(LoraSpec(r=4).build().attach(tiny_model(family), seed=3))), rows, 6
        )

    kept_loss, kept, _ = measured()
    monkeypatch.setattr(attention, "KEPT_KEYS", 0)
    loss, again, _ = measured()
    assert loss == kept_loss
    assert all(torch.allclose(again[name], kept[name], rtol=1e-5, atol=1e-7) for name in kept)


def test_packed_rows_do_not_see_each_other():
    model = tiny_model("llama")
    rows = rows_of("nothing", 4)
    alone = [float(FastStep(model).target_loss([row]).total.detach()) for row in rows]
    together = float(FastStep(model).target_loss(rows).total.detach())
    assert together == pytest.approx(sum(alone), rel=1e-6)
    swapped = [rows[0], rows[1], rows[2], rows_of("nothing", 5)[4]]
    changed = float(FastStep(model).target_loss(swapped).total.detach()) - float(
        FastStep(model).target_loss(swapped[3:]).total.detach()
    )
    assert changed == pytest.approx(sum(alone[:3]), rel=1e-6)
