"""The house's invariants on every family: what an adapter, a file, a mask and a template may never change."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from luthier.examples.example import Example, Message
from luthier.examples.store import Encoded
from luthier.jobs.chat import Chat
from luthier.jobs.manner import manner_of
from luthier.model.adapter import load_tuned, merge
from luthier.model.adapters.full import FullSpec
from luthier.model.adapters.lora import LoraSpec
from luthier.model.load import load_model, load_tokenizer
from luthier.model.step import FastStep, PlainStep, StepModel
from luthier.model.template import Template
from luthier.model.tiny import FAMILIES, save_tiny, tiny_model, tiny_tokenizer

IDS = torch.randint(0, 200, (2, 24), generator=torch.Generator().manual_seed(0))
STEPS: dict[str, Callable[[torch.nn.Module], StepModel]] = {"plain": PlainStep, "fast": FastStep}

families = pytest.mark.parametrize("family", FAMILIES)


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=IDS).logits


def adapted(model: torch.nn.Module, *, moved: bool = True) -> torch.nn.Module:
    """Return the model with an adapter, whose weights have moved away from where they begin."""
    model = LoraSpec(r=4).build().attach(model, seed=1)
    if moved:
        generator = torch.Generator().manual_seed(2)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.data.normal_(0, 0.05, generator=generator)
    return model


@families
def test_a_fresh_adapter_and_one_that_is_off_are_the_base(family: str) -> None:
    base = logits(tiny_model(family))
    assert torch.equal(logits(adapted(tiny_model(family), moved=False)), base)
    model = adapted(tiny_model(family))
    assert not torch.allclose(logits(model), base, atol=1e-2)
    with model.disable_adapter():
        assert torch.equal(logits(model), base)


@families
def test_merged_is_unmerged(family: str) -> None:
    model = adapted(tiny_model(family))
    before = logits(model)
    merged = merge(model)
    assert not any("lora" in name for name, _ in merged.named_parameters())
    assert torch.allclose(logits(merged), before, atol=1e-5)


@families
def test_saved_is_loaded(family: str, tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base", family)
    model = adapted(load_model(base))
    LoraSpec(r=4).build().save(model, tmp_path / "adapter", base_model="tiny")
    assert torch.equal(logits(load_tuned(base, tmp_path / "adapter")), logits(model))

    other = tiny_model(family, seed=9)
    FullSpec().build().save(other, tmp_path / "full", base_model="tiny")
    assert torch.equal(logits(load_tuned(base, tmp_path / "full")), logits(other))


def rows(targets: Callable[[int], bool]) -> list[Encoded]:
    """Two rows that share a beginning; `targets` says which positions carry loss."""
    ids = [IDS[0, :10].tolist() + row[10:].tolist() for row in IDS]
    return [Encoded(row, [place > 0 and targets(place) for place in range(len(row))], 10) for row in ids]


@families
@pytest.mark.parametrize("kind", STEPS)
def test_only_the_adapter_moves_and_all_of_it(family: str, kind: str) -> None:
    model = adapted(tiny_model(family), moved=False)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    step = STEPS[kind](model)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        step.target_loss(rows(lambda place: place > 9)).total.backward()
        optimizer.step()
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {name for name in before if "lora_" in name}


@families
@pytest.mark.parametrize("kind", STEPS)
def test_masked_tokens_carry_no_loss(family: str, kind: str) -> None:
    step = STEPS[kind](tiny_model(family))

    def loss(some: list[Encoded]) -> float:
        return float(step.target_loss(some).total.detach())

    # By hand: the log-probability of each target after the tokens before it, and of nothing else.
    few = rows(lambda place: place in (3, 12, 20))
    by_hand = 0.0
    for row in few:
        with torch.inference_mode():
            said = tiny_model(family)(input_ids=torch.tensor([row.ids])).logits[0].log_softmax(-1)
        by_hand -= sum(float(said[place - 1, row.ids[place]]) for place, on in enumerate(row.targets) if on)
    assert loss(few) == pytest.approx(by_hand, rel=1e-5)

    # Targets add up, so none of them is paid for by a masked token.
    halves = [rows(lambda place, odd=odd: place % 2 == odd) for odd in (0, 1)]
    assert loss(rows(lambda place: True)) == pytest.approx(sum(map(loss, halves)), rel=1e-5)

    # What follows the last target changes nothing.
    whole = rows(lambda place: place in (11, 12))
    assert loss([Encoded([*row.ids[:13], 7, 8, 9], row.targets[:16], 10) for row in whole]) == pytest.approx(
        loss(whole), rel=1e-5
    )


def talk(system: str, *turns: str) -> Example:
    messages = [Message(role="system", content=system)] if system else []
    messages += [Message(role=("user", "assistant")[i % 2], content=turn) for i, turn in enumerate(turns)]
    return Example(messages=tuple(messages))


TALKS = {
    "one question": [talk("", "Which tone?\n\ngood day", "kind"), talk("", "Which tone?\n\ngood grief", "harsh")],
    "a system message": [talk("Be brief.", "What is the time?", "Noon."), talk("Be brief.", "Who?", "Me.")],
    "many turns": [talk("", "hi", "there", "how are you", "well"), talk("", "a", "b")],
    "bare instruction": [talk("", "the thing", "in the end"), talk("", "another", "one")],
}


@pytest.mark.parametrize("examples", TALKS.values(), ids=TALKS)
def test_what_is_served_is_templated_as_what_was_trained(examples: list[Example], tmp_path: Path) -> None:
    served = Template(load_tokenizer(save_tiny(tmp_path / "model", "llama")))
    trained = Template(tiny_tokenizer())
    assert (served.sha256, served.stop_ids) == (trained.sha256, trained.stop_ids)

    for example in examples:
        row = trained.encode(example)
        request = row.ids[: row.prompt_tokens]
        before = [message.model_dump(include={"role", "content"}) for message in example.messages[:-1]]
        # A server that has only the model's own files renders the messages so.
        theirs = served.tokenizer.apply_chat_template(before, add_generation_prompt=True, tokenize=True)
        assert served.prompt_ids(example) == request == theirs["input_ids"]

        chat = Chat(lambda ids, tokens: iter(()), served, manner_of(examples))
        chat.turns += [message for message in example.messages[:-2] if message.role != "system"]
        asked = example.messages[-2].content.removeprefix(chat.manner.instruction)
        assert chat._ids(asked) == request

        # The model learns to say what ends a turn, which is what stops it.
        assert row.targets[-1] and row.ids[-1] in served.stop_ids
