"""What holds for every adapter: how it begins, what it moves, what is saved, and what a plain model makes of it."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from tests.model.adapters import CASES, Tuned, push
from tests.sizes import IN_FULL

from luthier.core.errors import ModelError
from luthier.examples.store import Encoded
from luthier.model.adapter import adapter_off, load_tuned, merge, parameters, ready
from luthier.model.adapters.boft import BoftSpec
from luthier.model.adapters.bottleneck import BottleneckSpec
from luthier.model.adapters.freeze import FreezeSpec
from luthier.model.adapters.ia3 import Ia3Spec
from luthier.model.adapters.llama_adapter import LlamaAdapterSpec
from luthier.model.adapters.lora import MOVES_BASE, LoraSpec
from luthier.model.adapters.prefix_tuning import PrefixTuningSpec
from luthier.model.adapters.prompt_tuning import PromptTuningSpec
from luthier.model.adapters.qlora import ROUNDED_BASE, QloraSpec
from luthier.model.adapters.union import KNOWN
from luthier.model.adapting.qlora import round_base
from luthier.model.generate import generate, stream
from luthier.model.load import load_model
from luthier.model.quick import quicken
from luthier.model.scoring import row_losses
from luthier.model.step import FastStep, PlainStep, StepModel, why_plain
from luthier.model.template import Template
from luthier.model.tiny import FAMILIES, tiny_model, tiny_tokenizer
from luthier.serve.adapters import why_not_beside

IDS = torch.randint(0, 200, (2, 24), generator=torch.Generator().manual_seed(0))
cases = pytest.mark.parametrize("case", CASES)
UNFIT = {
    "lora-olora": ("gpt2",),
    "lora-patterns": ("gpt2", "phi3"),
    "lora-whole-parts": ("gpt2", "phi3"),
    "qlora": ("gpt2",),
    "qlora-loftq": ("gpt2",),
    "ia3": ("phi3",),
    "oft": ("gpt2",),
    "boft": ("gpt2",),
    "llama_adapter": ("qwen2", "qwen3", "gemma3", "phi3", "gpt2"),
    **{name: ("gemma3",) for name in CASES if name.startswith(("prompt", "prefix", "p_tuning"))},
}


def unfit(case: str) -> tuple[str, ...]:
    """Return the families that an adapter refuses."""
    return UNFIT.get(case, ())


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=IDS).logits[:, -IDS.shape[1] :]


def rows() -> list[Encoded]:
    """Rows that share a beginning and are not of one length."""
    whole = [IDS[0, :10].tolist() + row[10 : 24 - 3 * i].tolist() for i, row in enumerate(IDS)]
    return [Encoded(ids, [place > 9 for place in range(len(ids))], 10) for ids in whole]


@cases
def test_it_begins_as_it_says_and_off_it_is_the_base(case: str, tmp_path: Path) -> None:
    spec, base = CASES[case], logits(tiny_model("llama"))
    tuned = Tuned(tmp_path, "llama", spec, moved=False)
    fresh = logits(tuned.model)
    if spec.traits.start == "base":
        assert torch.allclose(fresh, base, atol=1e-5)
    else:
        assert not torch.allclose(fresh, base, atol=1e-3)
    push(tuned.model)
    assert not torch.allclose(logits(tuned.model), fresh, atol=1e-3)
    moves_base = spec.traits.whole or spec.name == "qlora" or getattr(spec, "init", "") in MOVES_BASE
    with adapter_off(tuned.model):
        assert torch.equal(logits(tuned.model), base) != moves_base


PAIRS = [
    (case, family)
    for case in CASES
    for family in FAMILIES
    if IN_FULL or "-" not in case or family == "llama" or family in unfit(case)
]
"""Each adapter on every family; with its options on one, and where they do not fit."""


@pytest.mark.parametrize(("case", "family"), PAIRS)
def test_saved_is_loaded_and_ready_to_answer(case: str, family: str, tmp_path: Path) -> None:
    spec = CASES[case]
    if family in unfit(case):
        with pytest.raises(ModelError) as refused:
            Tuned(tmp_path, family, spec)
        assert refused.value.hint and "train.adapter" in refused.value.where["field"]
        return
    tuned = Tuned(tmp_path, family, spec)
    said = logits(tuned.model)
    weights = tuned.saved(tmp_path / "weights")
    assert torch.allclose(logits(load_tuned(tuned.base, weights)), said, atol=1e-5)
    plain = ready(load_tuned(tuned.base, weights))
    assert type(plain) is type(tiny_model(family)) and torch.allclose(logits(quicken(plain)), said, atol=1e-5)

    config = weights / "adapter_config.json"
    assert spec.traits.whole != config.exists()
    if config.exists():
        told = json.loads(config.read_text())
        assert told["peft_type"] == spec.traits.peft_type in KNOWN and told["base_model_name_or_path"] == "tiny"


@cases
def test_peft_itself_loads_it(case: str, tmp_path: Path) -> None:
    spec, tuned = CASES[case], Tuned(tmp_path, "llama", CASES[case])
    weights = tuned.saved(tmp_path / "weights")
    if spec.name in ("bottleneck", "full", "freeze"):
        with pytest.raises((ValueError, KeyError)):
            PeftModel.from_pretrained(load_model(tuned.base), str(weights))
        return
    base = load_model(tuned.base)
    round_base(base, weights)
    theirs = PeftModel.from_pretrained(base, str(weights))
    assert torch.allclose(logits(theirs), logits(tuned.model), atol=1e-5)
    with theirs.disable_adapter():
        untouched = logits(theirs)
    # What is saved stands on the untouched base, which only QLoRA's is not.
    assert torch.equal(untouched, logits(load_model(tuned.base))) != (spec.name == "qlora")


@cases
def test_merged_is_unmerged_or_refused(case: str, tmp_path: Path) -> None:
    spec, tuned = CASES[case], Tuned(tmp_path, "llama", CASES[case])
    loaded, said = load_tuned(tuned.base, tuned.saved(tmp_path / "weights")), logits(tuned.model)
    if spec.traits.unmergeable:
        with pytest.raises(ModelError) as refused:
            merge(loaded)
        assert refused.value.why == spec.traits.unmergeable
        return
    merged = merge(loaded)
    merged.save_pretrained(tmp_path / "merged")
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    assert torch.allclose(logits(load_model(tmp_path / "merged")), said, atol=1e-5)


@cases
def test_only_the_adapter_moves_and_all_of_it(case: str, tmp_path: Path) -> None:
    model = Tuned(tmp_path, "llama", CASES[case], moved=False).model
    before = {name: tensor.detach().clone() for name, tensor in model.state_dict(keep_vars=True).items()}
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        PlainStep(model).target_loss(rows()).total.backward()
        optimizer.step()
    names = {name for name, _ in model.named_parameters()}
    moved = {name for name, tensor in model.state_dict(keep_vars=True).items() if not torch.equal(tensor, before[name])}
    assert moved & names == trained and trained
    assert parameters(model) >= parameters(tiny_model("llama"))


def mean_gradients(step: StepModel, micro_batch: int) -> tuple[float, dict[str, torch.Tensor]]:
    step.model.zero_grad()
    total, some = 0.0, rows()
    for start in range(0, len(some), micro_batch):
        loss = step.target_loss(some[start : start + micro_batch]).total
        loss.backward()
        total += float(loss.detach())
    return total, {name: weight.grad for name, weight in step.model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize(
    ("case", "family"), [(case, family) for case in CASES for family in ("llama", "qwen3") if family not in unfit(case)]
)
def test_fast_is_plain_and_the_split_changes_nothing(case: str, family: str, tmp_path: Path) -> None:
    model = Tuned(tmp_path, family, CASES[case]).model
    loss, grads = mean_gradients(PlainStep(model), 2)
    grads = {name: grad.clone() for name, grad in grads.items()}
    assert grads.keys() == {name for name, weight in model.named_parameters() if weight.requires_grad}
    scale = max(float(grad.norm()) for grad in grads.values())
    kinds: list[type[PlainStep | FastStep]] = [PlainStep]
    if why_plain(model) is None:
        # It gives the model another attention, so it comes last.
        kinds.append(FastStep)
    else:
        assert "virtual tokens" in str(why_plain(model))
    for kind in kinds:
        step = kind(model)
        for micro_batch in (1, 2):
            again, found = mean_gradients(step, micro_batch)
            assert again == pytest.approx(loss, rel=1e-5) and found.keys() == grads.keys()
            assert all(float((found[name] - grads[name]).norm()) <= 1e-4 * scale for name in grads)


@cases
def test_generation_and_scoring_say_what_the_trained_model_says(case: str, tmp_path: Path) -> None:
    tuned = Tuned(tmp_path, "llama", CASES[case])
    plain = ready(load_tuned(tuned.base, tuned.saved(tmp_path / "weights")))
    template, prompts = Template(tiny_tokenizer()), [IDS[0, :12].tolist(), IDS[1, :7].tolist(), IDS[0, :9].tolist()]
    answers = [answer.ids for answer in generate(plain, template, prompts, max_new_tokens=6)]
    assert answers == [greedy(tuned.model, prompt, template) for prompt in prompts]
    alone = "".join(stream(plain, template, prompts[0], max_new_tokens=6))
    assert alone == template.text(answers[0])

    # What the model's own library generates, as lm-eval lets it.
    theirs = plain.generate(torch.tensor([prompts[1]]), max_new_tokens=6, do_sample=False, eos_token_id=None)
    said = theirs[0, len(prompts[1]) :].tolist()
    assert said[: len(answers[1])] == answers[1]

    with torch.no_grad():
        loss = PlainStep(tuned.model).target_loss(rows())
    assert sum(row.total for row in row_losses(plain, rows())) == pytest.approx(float(loss.total), rel=1e-5)


def greedy(model: torch.nn.Module, prompt: list[int], template: Template) -> list[int]:
    ids = list(prompt)
    for _ in range(6):
        with torch.inference_mode():
            token = int(model.eval()(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        if token in template.stop_ids:
            break
        ids.append(token)
    return ids[len(prompt) :]


def test_virtual_tokens_take_room_of_the_context(tmp_path: Path) -> None:
    tuned = Tuned(tmp_path, "llama", PromptTuningSpec(virtual_tokens=5))
    plain, prompt = ready(load_tuned(tuned.base, tuned.saved(tmp_path / "weights"))), [7] * 500
    [answer] = generate(plain, Template(tiny_tokenizer()), [prompt], max_new_tokens=50)
    assert len(answer.ids) <= 512 - 500 - 5


def test_what_took_a_part_of_the_base_is_saved_as_plain_lora(tmp_path: Path) -> None:
    tuned = Tuned(tmp_path, "llama", CASES["lora-olora"])
    weights = tuned.saved(tmp_path / "weights")
    told = json.loads((weights / "adapter_config.json").read_text())
    assert (told["r"], told["init_lora_weights"]) == (8, True)
    assert why_not_beside(weights) is None


def test_lora_goes_on_from_a_folder(tmp_path: Path) -> None:
    before = Tuned(tmp_path, "llama", LoraSpec(r=4, target_modules=("q_proj", "down_proj")))
    folder = str(before.saved(tmp_path / "before"))
    spec = LoraSpec(r=4, target_modules=("q_proj", "down_proj"), start_from=folder)
    assert spec.traits.start == "given"
    model = spec.build().attach(load_model(before.base), seed=9)
    assert torch.equal(logits(model), logits(before.model))
    assert {name for name, weight in model.named_parameters() if weight.requires_grad} == {
        name for name, _ in model.named_parameters() if "lora_" in name
    }


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"r": 8}, "`r` is 4 there and 8"),
        ({"alpha": 5.0}, "`alpha` is 8 there and 5.0"),
        ({"dora": True}, "`dora` is False there and True"),
        ({"target_modules": ("q_proj", "k_proj")}, "missing"),
        ({"start_from": "nowhere"}, "No such file"),
    ],
)
def test_what_was_made_otherwise_is_not_gone_on_from(changes: dict, told: str, tmp_path: Path) -> None:
    before = Tuned(tmp_path, "llama", LoraSpec(r=4, target_modules=("q_proj",)))
    folder = str(before.saved(tmp_path / "before"))
    spec = LoraSpec(**{"r": 4, "target_modules": ("q_proj",), "start_from": folder, **changes})
    with pytest.raises(ModelError) as refused:
        spec.build().attach(load_model(before.base), seed=9)
    assert told in refused.value.why and refused.value.hint
    assert refused.value.where["field"] == "train.adapter.start_from"


@pytest.mark.parametrize(("case", "told"), [("lora-pissa", "began as `pissa_"), ("qlora", "rounded to 4 bits")])
def test_what_stands_on_changed_weights_is_not_gone_on_from(case: str, told: str, tmp_path: Path) -> None:
    before = Tuned(tmp_path, "llama", CASES[case])
    folder = before.saved(tmp_path / "before")
    if case == "lora-pissa":
        config = folder / "adapter_config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"init_lora_weights": "pissa_niter_4"}))
    spec = LoraSpec(r=4, start_from=str(folder))
    with pytest.raises(ModelError, match="is of another base") as refused:
        spec.build().attach(load_model(before.base), seed=9)
    assert told in refused.value.why and refused.value.hint


@pytest.mark.parametrize(
    ("spec", "field", "told"),
    [
        (LoraSpec(target_modules=("query",)), "target_modules", "down_proj, gate_proj, k_proj, lm_head"),
        (LoraSpec(target_modules=("lm_head",)), "target_modules", "freeze"),
        (LoraSpec(rank_pattern={"query": 2}), "rank_pattern", "q_proj"),
        (LoraSpec(alpha_pattern={"query": 2.0}), "alpha_pattern", "q_proj"),
        (LoraSpec(modules_to_save=("norms",)), "modules_to_save", "input_layernorm"),
        (LoraSpec(modules_to_save=("embed_tokens",)), "modules_to_save", "leave it out"),
        (LoraSpec(r=64, init="pissa"), "r", "16 at most"),
        (Ia3Spec(target_modules=("query",)), "target_modules", "q_proj"),
        (BoftSpec(block_size=5), "block_size", "divides"),
        (FreezeSpec(layers=3), "layers", "it has 2"),
        (LlamaAdapterSpec(layers=3), "layers", "it has 2"),
    ],
)
def test_what_the_model_does_not_have_is_refused_by_name(spec: LoraSpec, field: str, told: str) -> None:
    with pytest.raises(ModelError) as refused:
        spec.build().attach(tiny_model("llama"), seed=1)
    assert refused.value.where["field"] == f"train.adapter.{field}" and told in refused.value.hint


@pytest.mark.parametrize(
    ("kind", "values", "told"),
    [
        (LoraSpec, {"init": "pissa", "dora": True}, "does not go with `dora`"),
        (LoraSpec, {"init": "olora", "start_from": "x"}, "does not go with `start_from`"),
        (LoraSpec, {"init": "orthogonal", "r": 3}, "even rank"),
        (Ia3Spec, {"feedforward_modules": ("down_proj",)}, "are among `target_modules`"),
        (PromptTuningSpec, {"init": "text"}, "go together"),
        (PromptTuningSpec, {"text": "be kind"}, "go together"),
    ],
)
def test_options_that_make_no_sense_together_are_refused(kind: type, values: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        kind(**values)


@pytest.mark.parametrize("broken", ["config", "weights", "rounding", "kind"])
def test_damaged_adapters_are_refused_in_words(broken: str, tmp_path: Path) -> None:
    spec = QloraSpec(r=4) if broken == "rounding" else BottleneckSpec(size=4)
    tuned = Tuned(tmp_path, "llama", spec)
    weights = tuned.saved(tmp_path / "weights")
    config = weights / "adapter_config.json"
    told = json.loads(config.read_text())
    if broken == "config":
        config.write_text(json.dumps(told | {"size": "wide"}))
    elif broken == "weights":
        config.write_text(json.dumps(told | {"size": 5}))
    elif broken == "kind":
        config.write_text(json.dumps(told | {"peft_type": "TRAINABLE_TOKENS"}))
    else:
        (weights / ROUNDED_BASE).write_text('{"kind": "int3"}')
    with pytest.raises(ModelError) as refused:
        load_tuned(tuned.base, weights)
    assert refused.value.why


def test_prefixes_are_saved_without_the_network_that_made_them(tmp_path: Path) -> None:
    tuned = Tuned(tmp_path, "llama", PrefixTuningSpec(virtual_tokens=3, projection=8))
    weights = tuned.saved(tmp_path / "weights")
    # Keys and values of 2 layers and 2 heads of 8 channels.
    size = (weights / "adapter_model.safetensors").stat().st_size
    assert 3 * 2 * 2 * 2 * 8 * 4 < size < 3 * 2 * 2 * 2 * 8 * 4 + 500
