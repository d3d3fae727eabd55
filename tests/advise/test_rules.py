from dataclasses import replace

import pytest
from tests.jobs.fakes import FACTS

from luthier.advise.facts import Facts
from luthier.advise.rules import RULES
from luthier.recipe import Recipe


def recipe(**train: object) -> Recipe:
    return Recipe(data={"path": "x"}, train=train)


def with_data(**changes: object) -> Facts:
    return replace(FACTS, data=replace(FACTS.data, **changes))


def with_model(**changes: object) -> Facts:
    return replace(FACTS, model=replace(FACTS.model, **changes))


def with_machine(**changes: object) -> Facts:
    return replace(FACTS, machine=replace(FACTS.machine, **changes))


def test_every_rule_speaks_of_its_own_field_and_says_why() -> None:
    for path, rule in RULES.items():
        advice = rule(recipe(epochs=3, batch_size=8), FACTS)
        assert advice.path == path and advice.because and advice.value != "auto"


@pytest.mark.parametrize(
    ("parameters", "adapter", "rate"),
    [(135e6, "lora", 5e-4), (500e6, "lora", 3e-4), (1.5e9, "lora", 2e-4), (8e9, "lora", 1e-4), (135e6, "full", 5e-5)],
)
def test_larger_models_take_smaller_steps(parameters: float, adapter: str, rate: float) -> None:
    asked = recipe(adapter={"name": adapter})
    assert RULES["train.learning_rate"](asked, with_model(parameters=int(parameters))).value == rate


def test_the_optimiser_has_a_part_in_rate_and_memory() -> None:
    rate, room = RULES["train.learning_rate"], RULES["train.micro_batch_tokens"]
    asked = rate(recipe(optimizer={"name": "lion"}), FACTS)
    assert asked.value == 1e-4 and "times 0.2 for lion" in asked.because

    small, full = with_machine(available_bytes=6_000_000_000), {"name": "full"}
    light = recipe(adapter=full, optimizer={"name": "sgd", "momentum": 0})
    usual, averaged = recipe(adapter=full), recipe(adapter=full, ema_decay=0.9)
    assert room(light, small).value > room(usual, small).value > room(averaged, small).value
    tight = with_machine(available_bytes=1_200_000_000, accelerator="GPU")
    assert room(recipe(activation_offload=True), tight).value > room(recipe(), tight).value


@pytest.mark.parametrize(
    ("adapter", "rate"), [("vera", 5e-3), ("prompt_tuning", 1.5e-2), ("qlora", 5e-4), ("freeze", 5e-5), ("boft", 5e-4)]
)
def test_each_adapter_has_its_own_usual_step(adapter: str, rate: float) -> None:
    advice = RULES["train.learning_rate"](recipe(adapter={"name": adapter}), with_model(parameters=135_000_000))
    assert advice.value == pytest.approx(rate, rel=0.35) and f"`{adapter}`" in advice.because


def test_virtual_tokens_leave_less_room_and_a_cache_is_not_recomputed() -> None:
    asked = recipe(adapter={"name": "prefix_tuning", "virtual_tokens": 30}, gradient_checkpointing="auto")
    longest, plain = (RULES["data.max_tokens"](one, FACTS) for one in (asked, recipe()))
    assert longest.value == plain.value - 30 and "30 virtual tokens" in longest.because
    tight = with_machine(available_bytes=900_000_000)
    rule = RULES["train.gradient_checkpointing"]
    assert rule(recipe(), tight).value is True
    assert rule(asked, tight).value is False and "cache" in rule(asked, tight).because


def test_preferences_take_smaller_steps_fewer_passes_and_twice_the_room() -> None:
    asked, full = recipe(method={"name": "dpo"}), recipe(method={"name": "dpo"}, adapter={"name": "full"})
    rate, epochs, room = (RULES[f"train.{name}"] for name in ("learning_rate", "epochs", "micro_batch_tokens"))
    assert (rate(asked, FACTS).value, rate(full, FACTS).value) == (5e-5, 5e-6)
    assert "a tenth" in rate(asked, FACTS).because and epochs(asked, FACTS).value == 1
    small = with_machine(available_bytes=1_000_000_000)
    assert room(asked, small).value == 2 * room(recipe(), small).value
    assert RULES["evaluate.metrics"](asked, with_data(answer_kind="pair")).value[0] == "preference_accuracy"


@pytest.mark.parametrize(
    ("rows", "epochs", "size"), [(10_000, 3, 32), (400, 3, 16), (200, 3, 8), (20, 1, 8), (3, 1, 3)]
)
def test_the_batch_leaves_enough_updates(rows: int, epochs: float, size: int) -> None:
    assert RULES["train.batch_size"](recipe(epochs=epochs), with_data(rows=rows)).value == size


def test_the_batch_with_steps_set_is_the_usual_one() -> None:
    assert RULES["train.batch_size"](recipe(steps=9), FACTS).value == 16
    assert RULES["train.batch_size"](recipe(steps=9), with_data(rows=5)).value == 5


def test_memory_decides_the_micro_batch() -> None:
    rule = RULES["train.micro_batch_tokens"]
    assert rule(recipe(), FACTS).value == 1536
    assert rule(recipe(), with_machine(available_bytes=2_000_000_000)).value == 256
    assert rule(recipe(), with_machine(available_bytes=1_000_000_000)).value == FACTS.data.longest_tokens
    assert rule(recipe(), with_machine(accelerator="GPU", available_bytes=80_000_000_000)).value == 16_384


def test_all_weights_need_more_memory_than_an_adapter() -> None:
    rule, small = RULES["train.micro_batch_tokens"], with_machine(available_bytes=5_000_000_000)
    full = rule(recipe(adapter={"name": "full"}), small).value
    last = rule(recipe(adapter={"name": "freeze", "layers": 1}), small).value
    assert full < last <= rule(recipe(), small).value


def test_checkpointing_only_where_memory_asks_for_it() -> None:
    rule = RULES["train.gradient_checkpointing"]
    assert rule(recipe(), FACTS).value is False
    assert rule(recipe(), with_machine(available_bytes=1_500_000_000)).value is True
    asked, small = recipe(gradient_checkpointing=True), with_machine(available_bytes=2_000_000_000)
    assert RULES["train.micro_batch_tokens"](asked, small).value == 1536


def test_long_runs_are_compiled_where_there_is_a_compiler() -> None:
    rule, asked = RULES["train.compile"], recipe(epochs=3, batch_size=16)
    assert rule(asked, FACTS).value is True
    assert rule(recipe(steps=5, batch_size=16), FACTS).value is False
    assert "no C++ compiler" in rule(asked, with_machine(has_compiler=False)).because


def test_the_cadence_is_a_tenth_of_the_run() -> None:
    asked = recipe(epochs=3, batch_size=8)
    assert RULES["train.checkpoint_every"](asked, FACTS).value == 30
    assert RULES["train.validate_every"](recipe(steps=3), FACTS).value == 1
    assert "no validation rows" in RULES["train.validate_every"](asked, with_data(has_validation=False)).because


@pytest.mark.parametrize(("labels", "context", "shots"), [(3, 2048, 6), (0, 2048, 4), (25, 2048, 17), (3, 64, 1)])
def test_shots_as_the_context_allows(labels: int, context: int, shots: int) -> None:
    facts = replace(with_data(labels=labels), model=replace(FACTS.model, context_tokens=context))
    assert RULES["evaluate.shots"](recipe(), facts).value == shots


@pytest.mark.parametrize(
    ("longest", "complete", "tokens"), [(4, True, 16), (100, True, 125), (100, False, 200), (9999, True, 2048)]
)
def test_answers_may_be_a_little_longer_than_seen(longest: int, complete: bool, tokens: int) -> None:
    facts = with_data(longest_answer_tokens=longest, complete=complete)
    assert RULES["evaluate.max_new_tokens"](recipe(), facts).value == tokens


def test_metrics_follow_the_answers() -> None:
    assert RULES["evaluate.metrics"](recipe(), FACTS).value[0] == "accuracy"
    assert RULES["evaluate.metrics"](recipe(), with_data(answer_kind="text")).value == ("perplexity",)
