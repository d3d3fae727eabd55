import pytest
from tests.advise.estimate.made import MACHINE, MEASURED, SIZE, STEPS, TIMED, WORK, shape

from luthier.advise.estimate import times
from luthier.advise.estimate.computed import computed_numbers, least_bytes
from luthier.advise.estimate.gpus import GPUS, gpu_named
from luthier.advise.estimate.measured import Sample, Task
from luthier.advise.estimate.price import Price
from luthier.advise.estimate.published import peak_bytes
from luthier.advise.estimate.result import PlanEstimate
from luthier.advise.estimate.space import memory_bytes, more_answers_bytes
from luthier.advise.estimate.whole import Asked, Machine, judged, measured_numbers
from luthier.core.errors import RecipeError


def estimate(machine: Machine = MACHINE, asked: Asked = Asked(), **changes: object) -> PlanEstimate:  # noqa: B008
    work = WORK.model_copy(update=changes)
    return judged(work, SIZE, measured_numbers(work, MEASURED, TIMED, prepare_seconds=2.0), machine, asked)


def test_the_steps_are_extrapolated_over_the_whole_run() -> None:
    sampled = 25 * sum(0.1 + 0.002 * micro.tokens for micro in TIMED)
    assert times.step_seconds(WORK, STEPS, TIMED) == pytest.approx(2 * sampled + 100 * 0.01)
    assert times.train_seconds(WORK, STEPS, TIMED) == pytest.approx(2 * sampled + 1 + 5 + 10 * 0.5 + 0.1)
    assert times.validate_seconds(WORK, STEPS, TIMED) == pytest.approx(11 * 0.5)


def test_pairs_are_priced_once_before() -> None:
    work = WORK.model_copy(update={"referenced_rows": 800})
    more = times.train_seconds(work, STEPS, TIMED) - times.train_seconds(WORK, STEPS, TIMED)
    assert more == pytest.approx(2 * 25 * 0.001 * sum(micro.tokens for micro in TIMED))


def test_the_evaluation_grows_by_its_rows_and_not_by_its_start() -> None:
    assert times.evaluate_seconds(WORK, MEASURED) == pytest.approx(5 + 1 + 100 * 0.25)


def test_answers_come_in_batches_and_end_sooner_once_learnt() -> None:
    tasks = (Task(system="tuned", name="likelihoods", seconds=1.0), Task(system="tuned", name="answers", seconds=5.0))
    samples = (Sample(rows=10, seconds=6.0, tasks=tasks, runs_on=True),)
    measured = MEASURED.model_copy(update={"samples": samples})
    seconds = times.evaluate_seconds(WORK, measured)
    assert seconds == pytest.approx(10 + 50 * (0.2 + 0.8 * 4 / 15))


def test_the_parts_add_up_and_every_number_has_a_reason() -> None:
    found = estimate()
    parts = ("prepare", "train", "validate", "evaluate", "export")
    assert found.total_seconds == pytest.approx(sum(getattr(found, f"{part}_seconds") for part in parts))
    assert set(found.because) == {"peak_memory_bytes", "disk_bytes", *(f"{part}_seconds" for part in (*parts, "total"))}
    assert all(because.text and because.source == "measured" for because in found.because.values())
    assert found.disk_bytes == sum(found.disk.values()) == 681_500_000
    assert found.fits and not found.changes and found.cost is None


def test_the_highest_part_counts() -> None:
    found = estimate()
    assert found.peak_memory_bytes == max(found.memory.values())
    assert list(found.memory) == ["training", "evaluation", "export"]


def test_shapes_not_tried_still_fill_the_caches() -> None:
    steps = STEPS.model_copy(update={"memory_bytes": (1_000_000_000, 1_100_000_000)})
    measured = MEASURED.model_copy(update={"steps": steps})
    many = WORK.model_copy(update={"micro_batches": tuple(map(shape, range(1, 51))), "sampled_steps": 100})
    more = memory_bytes(many, measured, 64)["training"] - MEASURED.train_bytes
    assert 2_000_000_000 < more < 2_500_000_000
    assert memory_bytes(WORK, MEASURED, 64)["training"] == MEASURED.train_bytes


def test_a_whole_batch_of_answers_takes_more_than_a_few() -> None:
    assert more_answers_bytes(WORK, SIZE, 4) > more_answers_bytes(WORK, SIZE, 32) > 0
    assert more_answers_bytes(WORK, SIZE, 64) == 0


def test_what_does_not_fit_says_what_to_change_the_mildest_first() -> None:
    found = estimate(MACHINE._replace(available_bytes=1_700_000_000), micro_batch_tokens=1536)
    assert not found.fits
    assert found.changes[0].path == "train.micro_batch_tokens" and found.changes[0].line.endswith("=300")
    assert all(change.because for change in found.changes)


def test_changes_go_on_until_enough_is_saved() -> None:
    found = estimate(MACHINE._replace(available_bytes=200_000_000), full=True)
    paths = [change.path for change in found.changes]
    assert paths[:3] == ["train.micro_batch_tokens", "train.gradient_checkpointing", "train.adapter"]
    assert found.changes[1].line == "train.gradient_checkpointing=true"


def test_a_full_disk_is_seen() -> None:
    found = estimate(MACHINE._replace(free_disk_bytes=600_000_000))
    assert not found.fits and found.changes[-1].line == "train.keep_checkpoints=1"


def test_gpus_are_marked_as_not_measured_and_name_their_source() -> None:
    found = estimate(asked=Asked(Price(per_hour=2.0), GPUS))
    assert len(found.elsewhere) == len(GPUS)
    for gpu in found.elsewhere:
        assert gpu.measured is False and gpu.because.text.startswith("not measured: from published figures (NVIDIA")
        assert gpu.cost and gpu.total_seconds > 30
    by_name = {gpu.name: gpu for gpu in found.elsewhere}
    assert by_name["H100"].total_seconds <= by_name["T4"].total_seconds


def test_a_large_model_fits_a_large_gpu_only() -> None:
    large = SIZE.model_copy(update={"parameters": 8_000_000_000, "trainable": 40_000_000})
    numbers = measured_numbers(WORK, MEASURED, TIMED, prepare_seconds=0)
    fits = {gpu.name: gpu.fits for gpu in judged(WORK, large, numbers, MACHINE, Asked(None, GPUS)).elsewhere}
    assert not fits["RTX 3090"] and fits["A100-80"]


@pytest.mark.parametrize("name", ["rtx4090", "RTX 4090", "nvidia a100-80", "t4"])
def test_names_of_gpus_are_read_kindly(name: str) -> None:
    assert gpu_named(name) in GPUS


def test_an_unknown_gpu_is_named() -> None:
    with pytest.raises(RecipeError) as caught:
        gpu_named("RTX 4091")
    assert "RTX 4090" in str(caught.value)


def test_hours_and_power_are_priced() -> None:
    hour = estimate(asked=Asked(Price(per_hour=3.0)))
    assert hour.cost and hour.cost.amount == pytest.approx(hour.total_seconds / 3600 * 3)
    power = estimate(asked=Asked(Price(per_kwh=0.3, watts=200)))
    assert power.cost and power.cost.amount == pytest.approx(power.total_seconds / 3600 * 0.2 * 0.3)
    assert "as given" in power.cost.because.text
    assert estimate(asked=Asked(Price())).cost is None


def test_what_is_too_large_to_try_is_computed() -> None:
    large = SIZE.model_copy(update={"parameters": 8_000_000_000, "layer_parameters": 7_000_000_000})
    assert least_bytes(WORK, large) > MACHINE.available_bytes
    found = judged(WORK, large, computed_numbers(WORK, large, MACHINE, prepare_seconds=1.0), MACHINE, Asked())
    assert not found.fits and found.changes and {reason.source for reason in found.because.values()} == {"computed"}
    assert found.changes[-1].path == "base_model"


def test_the_state_of_the_optimiser_and_what_is_offloaded_count() -> None:
    full = SIZE.model_copy(update={"trainable": SIZE.parameters})
    lion, averaged = (WORK.model_copy(update={"state_bytes": size, "full": True}) for size in (8, 16))
    assert least_bytes(averaged, full) - least_bytes(lion, full) == 8 * SIZE.parameters
    assert peak_bytes(averaged, full, 4e5) - peak_bytes(lion, full, 4e5) == 8 * SIZE.parameters
    kept = [computed_numbers(work, full, MACHINE, prepare_seconds=1).disk["checkpoints"] for work in (lion, averaged)]
    assert kept[1] - kept[0] == WORK.kept_checkpoints * 8 * SIZE.parameters
    moved = WORK.model_copy(update={"offloads": True})
    assert peak_bytes(WORK, SIZE, 4e5) - peak_bytes(moved, SIZE, 4e5) == pytest.approx(
        400 * 4e5 * (1 - 2 / 30), rel=0.01
    )


def test_every_seed_is_a_training_of_its_own() -> None:
    once, thrice = (estimate(asked=Asked(None, GPUS), trainings=count, systems=2 + count) for count in (1, 3))
    assert thrice.train_seconds == pytest.approx(3 * once.train_seconds)
    assert thrice.validate_seconds == pytest.approx(3 * once.validate_seconds)
    assert thrice.export_seconds == once.export_seconds
    assert thrice.disk["weights"] == 3 * once.disk["weights"] and thrice.disk["exports"] == once.disk["exports"]
    assert thrice.peak_memory_bytes == once.peak_memory_bytes
    assert all(a.total_seconds > b.total_seconds for a, b in zip(thrice.elsewhere, once.elsewhere, strict=True))

    tasks = (Task(system="tuned", name="answers", seconds=5.0), Task(system="few-shot", name="answers", seconds=5.0))
    measured = MEASURED.model_copy(update={"samples": (Sample(rows=10, seconds=10.0, tasks=tasks, runs_on=False),)})
    answered = [times.evaluate_seconds(WORK.model_copy(update={"trainings": count}), measured) for count in (1, 3)]
    assert answered == pytest.approx([100.0, 200.0])

    def computed(trainings: int) -> float:
        work = WORK.model_copy(update={"trainings": trainings})
        return computed_numbers(work, SIZE, MACHINE, prepare_seconds=1.0).seconds["train_seconds"]

    assert computed(3) == pytest.approx(3 * computed(1))
