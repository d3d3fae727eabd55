"""The options of training: each does what it says, and none of them breaks what holds for every run."""

import shutil
from collections.abc import Callable

import pytest
import torch
from tests.train.made import make_prepared, metrics_of, rows_of, same, spec_of, train, weights_of

from luthier.core.artifacts import Prepared
from luthier.core.errors import RecipeError
from luthier.examples.store import Encoded, Noise
from luthier.model.adapters.full import FullSpec
from luthier.model.adapters.lora import LoraSpec
from luthier.model.step import FastStep, PlainStep
from luthier.model.tiny import tiny_model
from luthier.recipe_io.read import recipe_from
from luthier.train.average import Average
from luthier.train.batches import Batches, Cut
from luthier.train.methods.sft.spec import SftSpec
from luthier.train.offload import Offload
from luthier.train.optimizers.groups import groups_of
from luthier.train.optimizers.optimizer import Optimizer
from luthier.train.optimizers.spec import (
    AdafactorSpec,
    AdamW8bitSpec,
    AdamWSpec,
    LionSpec,
    MuonSpec,
    ScheduleFreeSpec,
    SgdSpec,
)
from luthier.train.schedules.spec import Constant, Plateau, Wsd
from luthier.train.spec import TrainSpec, state_bytes

HERE = (AdamWSpec(), AdafactorSpec(), LionSpec(), MuonSpec(), SgdSpec(), SgdSpec(momentum=0), ScheduleFreeSpec())
"""The optimisers that run on any machine."""


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Prepared:
    return make_prepared(tmp_path_factory.mktemp("prepared"))


RESUMED = {
    "adafactor": {"optimizer": AdafactorSpec(), "learning_rate": 1e-2},
    "lion": {"optimizer": LionSpec(), "learning_rate": 1e-3},
    "muon": {"optimizer": MuonSpec(), "learning_rate": 1e-2},
    "muon-full": {"optimizer": MuonSpec(), "adapter": FullSpec(), "learning_rate": 1e-3, "weight_decay": 0.1},
    "sgd": {"optimizer": SgdSpec(nesterov=True)},
    "sgd-without-memory": {"optimizer": SgdSpec(momentum=0)},
    "schedule-free": {"optimizer": ScheduleFreeSpec(), "schedule": Constant(), "warmup": 0.5},
    "average": {"ema_decay": 0.5},
    "layers-and-loraplus": {"layer_decay": 0.5, "loraplus_ratio": 4.0, "schedule": Wsd()},
    "plateau": {"schedule": Plateau(patience=1, min_delta=10.0), "warmup": 0.0, "validate_every": 1},
    "noise": {"neftune_noise_alpha": 5.0, "method": SftSpec(label_smoothing=0.1)},
}


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_run_ends_in_the_same_bits(prepared, tmp_path, name):
    spec = spec_of(steps=6, validate_every=2, keep_checkpoints=9).model_copy(update=RESUMED[name])
    train(spec, prepared, tmp_path)
    first, rows = weights_of(tmp_path), metrics_of(tmp_path)
    (tmp_path / "artifact.json").unlink()
    for gone in ("weights", "checkpoints/step-00000006"):
        shutil.rmtree(tmp_path / gone)

    train(spec, prepared, tmp_path)
    assert same(weights_of(tmp_path), first)
    told = ("step", "loss", "learning_rate", "validation_loss")
    assert [[row.get(key) for key in told] for row in metrics_of(tmp_path)] == [
        [row.get(key) for key in told] for row in rows
    ]
    assert rows[-1]["loss"] != rows[1]["loss"]


@pytest.mark.parametrize("spec", HERE, ids=lambda spec: spec.name)
def test_an_optimiser_learns_and_takes_the_memory_it_says(spec):
    torch.manual_seed(0)
    weights = {"model.layers.0.up.weight": torch.nn.Parameter(torch.randn(64, 48))}
    goal = torch.randn(64, 48)
    plan = spec_of(optimizer=spec)
    optimizer, losses = Optimizer(weights, plan), []
    rates = {"sgd": 0.2, "adafactor": 0.1, "muon": 0.5}
    for _ in range(60):
        optimizer.set_rate(rates.get(spec.name, 0.05))
        loss = (weights["model.layers.0.up.weight"] - goal).square().sum() / 2
        loss.backward()
        optimizer.step()
        optimizer.forget()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    bytes_each = sum(tensor.nbytes for tensor in optimizer.tensors().values()) / (64 * 48)
    assert bytes_each == pytest.approx(spec.state_bytes(), abs=0.1)
    kept = spec.state_bytes(whole=plan.adapter.traits.whole)
    assert state_bytes(plan) == 4 + kept
    assert state_bytes(plan.model_copy(update={"ema_decay": 0.9})) == 8 + kept


def test_muon_leaves_vectors_to_adamw_and_says_what_embeddings_take():
    weights = {
        name: torch.nn.Parameter(torch.ones(*shape))
        for name, shape in {
            "model.layers.0.k_proj.ia3_l.default": (8, 1),
            "model.layers.0.down_proj.ia3_l.default": (1, 8),
            "model.layers.0.k_proj.weight": (8, 8),
            "model.embed_tokens.weight": (64, 8),
        }.items()
    }
    groups = groups_of(weights, spec_of(optimizer=MuonSpec()))
    assert [len(group["params"]) for group in groups if group["is_matrix"]] == [1]
    beside, whole = (state_bytes(spec_of(optimizer=MuonSpec(), adapter=spec)) for spec in (LoraSpec(), FullSpec()))
    assert beside == 4 + 4
    optimizer = Optimizer(weights, spec_of(optimizer=MuonSpec(), adapter=FullSpec()))
    sum((weight * weight).sum() for weight in weights.values()).backward()
    optimizer.set_rate(1e-3)
    optimizer.step()
    used = sum(tensor.nbytes for tensor in optimizer.tensors().values()) / sum(w.numel() for w in weights.values())
    assert 4 < used <= whole - 4


def test_lion_steps_as_the_paper_says():
    weight = torch.nn.Parameter(torch.tensor([[1.0, -2.0]]))
    optimizer = Optimizer({"w": weight}, spec_of(optimizer=LionSpec(betas=(0.5, 0.9)), weight_decay=0.1))
    optimizer.set_rate(0.1)
    for grad in ([3.0, 1.0], [-2.0, 4.0]):
        weight.grad = torch.tensor([grad])
        optimizer.step()
    # First step: signs of the gradient. Second: of 0.5 * momentum + 0.5 * gradient = 0.15 - 1, and 0.05 + 2.
    first = torch.tensor([[1.0, -2.0]]) * 0.99 - 0.1
    assert torch.allclose(weight, first * 0.99 + torch.tensor([[0.1, -0.1]]))


def test_muon_takes_matrices_and_adamw_the_rest():
    weights = dict(tiny_model("llama").requires_grad_(True).named_parameters())
    matrices, rest = Optimizer(weights, spec_of(optimizer=MuonSpec(), adapter=FullSpec())).parts
    names = {weight: name for name, weight in weights.items()}
    by_muon = {names[w] for group in matrices.param_groups for w in group["params"]}
    by_adamw = {names[w] for group in rest.param_groups for w in group["params"]}
    assert type(matrices).__name__ == "Muon" and type(rest).__name__ == "AdamW"
    assert all(name.endswith("_proj.weight") for name in by_muon) and len(by_muon) == 2 * 7
    assert by_adamw == set(weights) - by_muon and "model.embed_tokens.weight" in by_adamw


def test_each_layer_and_each_matrix_has_its_share_of_the_rate():
    lm = tiny_model("llama").requires_grad_(True)
    weights = dict(lm.named_parameters())
    spec = spec_of(adapter=FullSpec(), layer_decay=0.5, weight_decay=0.2)
    names = {weight: name for name, weight in weights.items()}
    share, decay = ({names[w]: g[key] for g in groups_of(weights, spec) for w in g["params"]} for key in KEYS)
    layers = lm.config.num_hidden_layers
    assert share["model.norm.weight"] == share[f"model.layers.{layers - 1}.mlp.up_proj.weight"] == 1.0
    assert share["model.layers.0.mlp.up_proj.weight"] == 0.5 ** (layers - 1)
    assert share["model.embed_tokens.weight"] == 0.5**layers
    assert decay["model.layers.0.mlp.up_proj.weight"] == 0.2 and decay["model.norm.weight"] == 0

    pair = {f"layers.0.q_proj.lora_{x}.default.weight": torch.nn.Parameter(torch.ones(2, 2)) for x in "AB"}
    groups = groups_of(pair, spec_of(loraplus_ratio=16.0))
    assert [group["share"] for group in groups] == [1.0, 16.0]
    scale = {"layers.0.k_proj.ia3_l.default": torch.nn.Parameter(torch.ones(4, 1))}
    assert groups_of(scale, spec_of(weight_decay=0.2))[0]["weight_decay"] == 0
    with pytest.raises(RecipeError, match="no B matrices"):
        groups_of({"layers.0.w": torch.nn.Parameter(torch.ones(2, 2))}, spec_of(loraplus_ratio=16.0))


KEYS = ("share", "weight_decay")


def test_the_average_is_validated_and_kept(prepared, tmp_path):
    spec = spec_of(steps=4, adapter=LoraSpec(r=4), validate_every=4, learning_rate=1e-2, keep_best=False)
    train(spec, prepared, tmp_path / "plain")
    train(spec.model_copy(update={"ema_decay": 0.9}), prepared, tmp_path / "average")
    plain, average = weights_of(tmp_path / "plain"), weights_of(tmp_path / "average")
    ups = [name for name in plain if "lora_B" in name]
    assert ups and all(average[name].norm() < 0.5 * plain[name].norm() for name in ups), "it lags behind"
    losses = [[row.get("loss") for row in metrics_of(tmp_path / name)] for name in ("plain", "average")]
    assert losses[0] == losses[1], "the training itself is the same"
    watched = [metrics_of(tmp_path / name)[-1]["validation_loss"] for name in ("plain", "average")]
    assert watched[0] != watched[1]


def test_an_average_stands_in_the_weights_only_for_a_while():
    weight = torch.nn.Parameter(torch.zeros(3))
    average = Average({"w": weight}, 0.75)
    with torch.no_grad():
        weight += 4
    average.follow()
    with average.standing():
        assert weight.tolist() == [1, 1, 1]
    assert weight.tolist() == [4, 4, 4] and average.tensors["w"].tolist() == [1, 1, 1]


def both_steps(change: Callable[[torch.nn.Module], object]) -> list[dict[str, torch.Tensor]]:
    """Return the gradients of the plain and of the fast step, with the loss among them."""
    found = []
    for kind in (PlainStep, FastStep):
        lm = tiny_model("llama").requires_grad_(True)
        loss = change(kind(lm))
        loss.backward()
        found.append({name: w.grad for name, w in lm.named_parameters()} | {"loss": loss.detach()})
    return found


def close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.allclose(a[name], b[name], rtol=1e-3, atol=2e-4) for name in a)


def test_smoothed_labels_have_the_same_gradients_in_both_steps():
    rows = [encoded for encoded, _ in rows_of(4, 1)]
    plain, fast = both_steps(lambda step: step.target_loss(rows, smoothing=0.3).total)
    sharp, _ = both_steps(lambda step: step.target_loss(rows).total)
    assert close(plain, fast) and not close(plain, sharp)

    loss, step = SftSpec(label_smoothing=0.3).build(), PlainStep(tiny_model("llama"))
    assert torch.allclose(loss(step, rows).loss, plain["loss"])
    with torch.no_grad():
        assert torch.allclose(loss(step, rows).loss, sharp["loss"]), "a validation is not smoothed"


def test_noise_is_the_same_in_both_steps_and_within_its_bounds():
    rows = [Encoded(row.ids, row.targets, row.prompt_tokens, noise=Noise(i, 20.0)) for i, (row, _) in numbered(4)]
    plain, fast = both_steps(lambda step: step.target_loss(rows).total)
    quiet, _ = both_steps(lambda step: step.target_loss([row for row, _ in rows_of(4, 1)]).total)
    assert close(plain, fast) and not torch.allclose(plain["loss"], quiet["loss"], rtol=1e-4)


def numbered(count: int):
    return enumerate(rows_of(count, 1))


def test_noise_depends_on_the_step_and_not_on_the_micro_batches(prepared):
    rows = [encoded for encoded, _ in rows_of(8, 1)]

    class Listed:
        __len__ = rows.__len__

        def encoded(self, index: int) -> Encoded:
            return rows[index]

    few, many = (
        Batches(Listed(), Cut(tokens, share=False), batch_size=8, seed=3, noise_alpha=5.0) for tokens in (500, 20)
    )

    def noises(batches: Batches, step: int) -> list[tuple[list[int], int]]:
        return sorted((row.ids, row.noise.seed) for group in batches.batch(step).micro_batches for row in group)

    assert noises(few, 0) == noises(many, 0) != noises(few, 1)
    assert len({seed for _, seed in noises(few, 0)}) == 8


def test_offloaded_activations_give_the_same_gradients():
    rows = [encoded for encoded, _ in rows_of(2, 1)]
    kept = both_steps(lambda step: step.target_loss(rows).total)
    moved = []

    def offloaded(step) -> torch.Tensor:
        offload = Offload(step.model.parameters())
        pack = offload._pack
        offload._pack = lambda tensor: moved.append(pack(tensor)[1].data_ptr() != tensor.data_ptr()) or pack(tensor)
        with offload():
            return step.target_loss(rows).total

    again = both_steps(offloaded)
    assert all(close(a, b) for a, b in zip(kept, again, strict=True))
    assert any(moved) and not all(moved), "activations move, weights stay"


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"activation_offload": True}, "train.activation_offload"), ({"optimizer": AdamW8bitSpec()}, "train.optimizer")],
)
def test_what_needs_a_gpu_is_refused_by_name(prepared, tmp_path, changes, field):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(RecipeError) as refused:
        train(spec_of(**changes), prepared, tmp_path)
    assert refused.value.where["field"] == field and refused.value.hint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("written", "field"),
    [
        ({"optimizer": "lion", "betas": [0.9, 0.95]}, "train.betas"),
        ({"optimizer": "sgd"}, "train.learning_rate"),
        ({"optimizer": "adafactor"}, "train.learning_rate"),
        ({"optimizer": {"name": "sgd", "momentum": 0, "nesterov": True}, "learning_rate": 0.1}, "nesterov"),
        ({"optimizer": "schedule_free"}, "train.schedule"),
        ({"optimizer": "schedule_free", "schedule": "constant", "ema_decay": 0.9}, "train.ema_decay"),
        ({"adapter": "full", "loraplus_ratio": 4}, "train.loraplus_ratio"),
        ({"method": {"name": "dpo", "label_smoothing": 0.1}}, "train.method.label_smoothing"),
        ({"optimizer": "adam"}, "train.optimizer.name"),
        ({"optimizer": {"momentum": 0.9}}, "train.optimizer.momentum"),
    ],
)
def test_what_makes_no_sense_is_refused_when_the_recipe_is_read(written, field):
    with pytest.raises(RecipeError) as refused:
        recipe_from({"data": "rows.jsonl", "train": written})
    assert str(refused.value.where["field"]).endswith(field)
    assert refused.value.hint or refused.value.why


def test_a_plateau_needs_rows_to_watch():
    data = {"path": "rows.jsonl", "split": {"validation": 0}}
    with pytest.raises(RecipeError, match="no validation rows"):
        recipe_from({"data": data, "train": {"schedule": "plateau"}})


def test_older_recipes_keep_their_meaning():
    written = {"schedule": "linear", "weight_decay": 0.1, "betas": [0.9, 0.95]}
    spec = recipe_from({"data": "rows.jsonl", "train": written}).train
    assert (spec.schedule.name, spec.optimizer, spec.betas) == ("linear", AdamWSpec(), (0.9, 0.95))
    assert recipe_from({"data": "rows.jsonl"}).train == TrainSpec()
