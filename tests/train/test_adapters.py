"""Every adapter through the training room: guards, exact resume, what is written, and why the plain step runs."""

import shutil

import pytest
from tests.model.adapters import CASES
from tests.sizes import is_tried
from tests.train.made import make_prepared, same, spec_of, train, weights_of

from luthier.core.errors import DataError, TrainingError
from luthier.model.adapter import load_tuned, ready
from luthier.model.adapters.lora import LoraSpec
from luthier.model.adapters.prompt_tuning import PromptTuningSpec
from luthier.model.adapters.qlora import ROUNDED_BASE, QloraSpec
from luthier.model.step import PlainStep
from luthier.train import checkpoint


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return make_prepared(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("case", filter(is_tried, CASES))
def test_resumed_is_uninterrupted_bit_for_bit(case, prepared, tmp_path):
    spec = spec_of(adapter=CASES[case], steps=6, checkpoint_every=3, learning_rate=1e-2)
    events = []
    done = train(spec, prepared, tmp_path / "whole", events)
    assert done.adapter == CASES[case].name and done.trainable_parameters < done.total_parameters * 1.01
    plain = [event.message for event in events if event.message.startswith("the plain step runs")]
    assert bool(plain) == CASES[case].traits.unmergeable.startswith("what it learns")
    assert not plain or "virtual tokens" in plain[0]

    again = tmp_path / "again"
    shutil.copytree(tmp_path / "whole", again)
    shutil.rmtree(again / "weights")
    (again / "artifact.json").unlink()
    shutil.rmtree(again / "checkpoints" / "step-00000006")
    assert checkpoint.newest_valid(again / "checkpoints").name == "step-00000003"
    events.clear()
    resumed = train(spec, prepared, again, events)
    assert any("going on from step-00000003" in event.message for event in events)
    assert same(weights_of(again), weights_of(tmp_path / "whole"))
    assert resumed.weights_sha256 == done.weights_sha256

    # What was written has the validation loss that was measured while training.
    model = ready(load_tuned(prepared.base.folder, done.weights))
    assert done.validation_loss == pytest.approx(loss_of(model, prepared), rel=1e-4)
    assert done.validation_loss < done.base_validation_loss


def loss_of(model, prepared):
    from luthier.examples.store import Split

    split = Split(prepared.split("validation"))
    found = PlainStep(model).target_loss([split.encoded(i) for i in range(len(split))])
    return float(found.total) / found.tokens


def test_an_adapter_that_is_not_as_it_says_does_not_train(prepared, tmp_path, monkeypatch):
    from luthier.model.adapting import qlora

    class Says(LoraSpec):
        def build(self):
            return qlora.Qlora(QloraSpec(r=4))

    with pytest.raises(TrainingError, match="before any training"):
        train(spec_of(adapter=LoraSpec(r=4)).model_copy(update={"adapter": Says(r=4)}), prepared, tmp_path)


def test_virtual_tokens_need_room_in_the_context(prepared, tmp_path):
    spec = spec_of(adapter=PromptTuningSpec(virtual_tokens=490))
    with pytest.raises(DataError) as refused:
        train(spec, prepared, tmp_path)
    assert refused.value.where["field"] == "data.max_tokens" and "set it to 22" in refused.value.hint


def test_lora_goes_on_from_what_was_trained(prepared, tmp_path):
    first = train(spec_of(adapter=LoraSpec(r=4), steps=8), prepared, tmp_path / "first")
    spec = LoraSpec(r=4, start_from=str(first.weights))
    second = train(spec_of(adapter=spec, steps=4), prepared, tmp_path / "second")
    assert second.base_validation_loss == pytest.approx(first.validation_loss, rel=1e-5)
    assert second.validation_loss != second.base_validation_loss


def test_qlora_says_beside_its_weights_how_the_base_was_rounded(prepared, tmp_path):
    done = train(spec_of(adapter=QloraSpec(r=4, block_size=32, double=False), steps=3), prepared, tmp_path)
    assert '"block_size": 32' in (done.weights / ROUNDED_BASE).read_text()
    assert done.total_parameters > 2 * done.trainable_parameters


@pytest.mark.parametrize("case", ["bottleneck", "vera", "qlora", "llama_adapter", "lora-dora", "prompt_tuning"])
def test_gradient_checkpointing_changes_nothing(case, prepared, tmp_path):
    losses = []
    for recompute in (False, True):
        spec = spec_of(adapter=CASES[case], steps=3, gradient_checkpointing=recompute, learning_rate=1e-2)
        losses.append(train(spec, prepared, tmp_path / str(recompute)).train_loss)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
