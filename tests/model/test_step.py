"""The fast step gives the plain step's loss and gradients, on every family."""

import random
import shutil

import pytest
import torch
from tests.sizes import IN_FULL

from luthier.examples.store import Encoded
from luthier.model import attention, head
from luthier.model.adapters.full import FullSpec
from luthier.model.adapters.lora import LoraSpec
from luthier.model.step import FastStep, PlainStep
from luthier.model.tiny import FAMILIES, tiny_model

KINDS = ("nothing", "prefix", "tree", "twins")
PAIRS = [(family, kind) for family in FAMILIES for kind in KINDS if IN_FULL or family == "llama" or kind == "tree"]
"""Every kind of rows on one family, and the kind that has all of it on every family."""


def rows_of(kind: str, count: int, vocabulary: int = 250) -> list[Encoded]:
    """Rows that share nothing, a long prefix, a tree of prefixes, or whole rows."""
    draw = random.Random(count)
    fresh = lambda n: [draw.randrange(vocabulary) for _ in range(n)]  # noqa: E731
    shared, branches = fresh(40), [fresh(12) for _ in range(3)]
    rows = []
    for i in range(count):
        before = {"nothing": [], "prefix": shared, "tree": shared + branches[i % 3], "twins": shared}[kind]
        body = shared[:5] if kind == "twins" and i % 2 else fresh(draw.randrange(3, 30))
        ids = [*before, *body, *fresh(3)]
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
    """Return the mean loss, the gradients by name, and how many tokens are targets and right."""
    step.model.zero_grad()
    total, tokens, correct = 0.0, 0, 0
    for start in range(0, len(rows), micro_batch):
        part = step.target_loss(rows[start : start + micro_batch])
        part.total.backward()
        total, tokens = total + float(part.total.detach()), tokens + part.tokens
        correct += int(part.correct)
    grads = {n: w.grad / tokens for n, w in step.model.named_parameters() if w.grad is not None}
    return total / tokens, grads, (tokens, correct)


@pytest.mark.parametrize("adapter", [LoraSpec(r=4), FullSpec()], ids=["lora", "full"])
@pytest.mark.parametrize(("family", "kind"), PAIRS)
def test_fast_step_is_the_plain_step(family, kind, adapter, record_property):
    rows = rows_of(kind, 8)

    def fresh():
        return with_noise(adapter.build().attach(tiny_model(family), seed=3))

    plain_loss, plain_grads, counts = loss_and_gradients(PlainStep(fresh()), rows, 8)
    assert counts[0] == sum(sum(row.targets) for row in rows)
    scale = max(float(g.abs().max()) for g in plain_grads.values())
    worst_loss = worst_gradient = 0.0
    for share in (True, False):
        for micro_batch in (1, 4, 8):
            loss, grads, found = loss_and_gradients(FastStep(fresh(), share=share), rows, micro_batch)
            assert found == counts
            assert grads.keys() == plain_grads.keys()
            worst_loss = max(worst_loss, abs(loss / plain_loss - 1))
            for name, grad in grads.items():
                size = max(float(plain_grads[name].norm()), 1e-2 * scale)
                worst_gradient = max(worst_gradient, float((grad - plain_grads[name]).norm()) / size)

    record_property("claim", f"Fast step = plain step, {family}: packed, prefix-shared, micro-batches of 1, 4 and 8")
    record_property("relative_loss_difference", worst_loss)
    record_property("relative_gradient_difference", worst_gradient)
    assert worst_loss <= 1e-5 and worst_gradient <= 1e-4


def pairs_of(kind: str, count: int) -> list[Encoded]:
    """Two rows for each prompt, which they share, one after the other."""
    prompts, draw = rows_of(kind, count), random.Random(5)
    answers = [[draw.randrange(250) for _ in range(draw.randrange(1, 20))] for _ in range(2 * count)]
    ids = [(prompts[i // 2].ids, answer) for i, answer in enumerate(answers)]
    return [Encoded([*p, *a], [False] * len(p) + [True] * len(a), len(p)) for p, a in ids]


def logprobs_and_gradients(step, rows, micro_batch: int):
    """Return the rows' log-probabilities and the gradients of a sum in which each row has another weight."""
    step.model.zero_grad()
    weights, found = torch.linspace(-1, 1.3, len(rows)), []
    for start in range(0, len(rows), micro_batch):
        logprobs = step.row_logprobs(rows[start : start + micro_batch])
        (logprobs * weights[start : start + micro_batch]).sum().backward()
        found.append(logprobs.detach())
    return torch.cat(found), {n: w.grad for n, w in step.model.named_parameters() if w.grad is not None}


@pytest.mark.parametrize("adapter", [LoraSpec(r=4), FullSpec()], ids=["lora", "full"])
@pytest.mark.parametrize(("family", "kind"), PAIRS)
def test_rows_have_the_plain_steps_log_probabilities(family, kind, adapter, record_property, monkeypatch):
    monkeypatch.setattr(head, "CHUNK_ROWS", 17)
    rows = pairs_of(kind, 4)

    def fresh():
        return with_noise(adapter.build().attach(tiny_model(family), seed=3))

    plain, plain_grads = logprobs_and_gradients(PlainStep(fresh()), rows, 8)
    total = sum(float(PlainStep(fresh()).target_loss([row]).total.detach()) for row in rows)
    assert -float(plain.sum()) == pytest.approx(total, rel=1e-5)
    scale = max(float(g.abs().max()) for g in plain_grads.values())
    worst = worst_gradient = 0.0
    for share in (True, False):
        for micro_batch in (2, 8):
            logprobs, grads = logprobs_and_gradients(FastStep(fresh(), share=share), rows, micro_batch)
            assert grads.keys() == plain_grads.keys()
            worst = max(worst, float((logprobs / plain - 1).abs().max()))
            for name, grad in grads.items():
                size = max(float(plain_grads[name].norm()), 1e-2 * scale)
                worst_gradient = max(worst_gradient, float((grad - plain_grads[name]).norm()) / size)

    record_property("claim", f"Log-probabilities of pairs, fast = plain, {family}: packed, prefix-shared")
    record_property("relative_loss_difference", worst)
    record_property("relative_gradient_difference", worst_gradient)
    assert worst <= 1e-5 and worst_gradient <= 1e-4


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


@pytest.mark.parametrize("step", [PlainStep, FastStep])
def test_right_tokens_are_counted(step):
    """Rows of what the model itself says are all right but for one token."""
    model = tiny_model("llama")
    ids = [5, 17, 9, 40]
    with torch.no_grad():
        for _ in range(6):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    wrong = [*ids[:-1], (ids[-1] + 1) % 250]
    targets = [False] * 4 + [True] * 6
    part = step(model).target_loss([Encoded(ids, targets, 4), Encoded(wrong, targets, 4)])
    assert (part.tokens, int(part.correct)) == (12, 11)


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
