"""Real jobs on a tiny model: the same run as `luthier run`, from upload to a model that can be asked."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors import safe_open
from tests.jobs.service.made import (
    OWNER,
    chat_lines,
    chat_row,
    lines_of,
    messages,
    new_job,
    put,
    service_of,
    state,
    wait_for,
    wait_until,
)
from tests.jobs.service.test_examine import pair_row

from luthier.core.files import sha256_of
from luthier.jobs.service.records import JobRecord
from luthier.jobs.service.service import Service
from luthier.model.tiny import save_tiny

ROWS, BATCH, EPOCHS = 24, 4, 4
STEPS = ROWS * EPOCHS // BATCH
CANARY = "zq-canary-7311"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("life")
    with pytest.MonkeyPatch.context() as patch, running(folder, patch) as service:
        yield service


@contextlib.contextmanager
def running(folder: Path, patch: pytest.MonkeyPatch, home: Path | None = None) -> Iterator[Service]:
    patch.setenv("LUTHIER_CACHE", str(folder / "cache"))
    service = service_of(home or folder, fake=False, base=save_tiny(folder / "base", "llama"))
    service.start()
    try:
        yield service
    finally:
        service.stop()


def adapter(service: Service, name: str | None) -> Path:
    folder = service.catalogue.resolve(name or "", OWNER).adapter
    assert folder is not None
    return folder / "adapter_model.safetensors"


def ended(service: Service, job: JobRecord) -> JobRecord:
    return wait_until(service, job, "succeeded", "failed", "cancelled")


@pytest.fixture(scope="module")
def tuned(service: Service) -> JobRecord:
    held_out = put(service, chat_lines(12, first=100))
    words = {"seed": 5, "suffix": "sevens", "validation_file": held_out.id}
    job = new_job(service, chat_lines(ROWS), **words, hyperparameters={"n_epochs": EPOCHS, "batch_size": BATCH})
    done = ended(service, job)
    assert done.status == "succeeded", done.error
    return done


def test_the_life_of_a_job(service: Service, tuned: JobRecord) -> None:
    used = tuned.hyperparameters
    assert (used.n_epochs, used.batch_size, used.learning_rate_multiplier, used.beta) == (EPOCHS, BATCH, 1.0, None)
    assert tuned.trained_tokens and tuned.trained_tokens % EPOCHS == 0 and tuned.attempt == 1
    told = messages(service, tuned)
    assert told[0] == f"Created fine-tuning job: {tuned.id}"
    assert told[1] == f"Validating training file: {tuned.training_file} and validation file: {tuned.validation_file}"
    assert told[2:4] == ["Files validated, moving job to queued state", "Fine-tuning job started"]
    assert told[-2:] == [
        f"New fine-tuned model created: {tuned.fine_tuned_model}",
        "The job has successfully completed",
    ]
    steps = [event.data for event in service.tuning.events(tuned.id, OWNER, limit=1000).data[::-1] if event.data]
    assert [step["step"] for step in steps] == list(range(1, STEPS + 1))
    assert all({"train_loss", "train_mean_token_accuracy", "total_steps"} <= step.keys() for step in steps)
    assert {"valid_loss", "valid_mean_token_accuracy"} <= steps[-1].keys()
    assert steps[-1]["train_loss"] < steps[0]["train_loss"]


def test_its_results(service: Service, tuned: JobRecord) -> None:
    (file,) = tuned.result_files
    assert service.files.get(file, OWNER).purpose == "fine-tune-results"
    head, *rows = service.files.path(file, OWNER).read_text().splitlines()
    assert head == "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy" and len(rows) == STEPS
    assert all(rows[-1].split(","))


def test_its_last_epochs_can_be_asked(service: Service, tuned: JobRecord) -> None:
    checkpoints = service.tuning.checkpoints(tuned.id, OWNER).data
    assert [checkpoint.step for checkpoint in checkpoints] == [STEPS * n // EPOCHS for n in (4, 3, 2)]
    newest = checkpoints[0]
    assert newest.model == f"{tuned.fine_tuned_model}:ckpt-step-{STEPS}"
    assert {"full_valid_loss", "full_valid_mean_token_accuracy", "train_loss", "step"} <= newest.metrics.keys()
    # The tuned model is that of the last step.
    assert sha256_of(adapter(service, newest.model)) == sha256_of(adapter(service, tuned.fine_tuned_model))
    others = {sha256_of(adapter(service, checkpoint.model)) for checkpoint in checkpoints}
    assert len(others) == 3
    created = [message for message in messages(service, tuned) if message.startswith("Checkpoint created at step")]
    assert len(created) == EPOCHS
    with safe_open(adapter(service, tuned.fine_tuned_model), "pt") as weights:
        assert all("lora" in name for name in weights.keys())  # noqa: SIM118 (it is no dictionary)


def test_pause_and_resume_give_the_same_bits(service: Service) -> None:
    words = {"seed": 5, "hyperparameters": {"n_epochs": 10, "batch_size": 1}}
    straight = new_job(service, chat_lines(12), **words)
    paused = new_job(service, chat_lines(12), **words)
    straight = ended(service, straight)
    wait_for(lambda: len(messages(service, paused)) > 12)
    assert service.tuning.pause(paused.id, OWNER).status == "pausing"
    assert wait_until(service, paused, "paused", "succeeded").status == "paused"
    newest = service.tuning.checkpoints(paused.id, OWNER).data[0]
    told = messages(service, paused)
    assert f"Checkpoint created at step {newest.step}" in told and adapter(service, newest.model).exists()
    service.tuning.resume(paused.id, OWNER)
    done = ended(service, paused)
    assert (done.status, done.attempt) == ("succeeded", 2), done.error
    same = [sha256_of(adapter(service, job.fine_tuned_model)) for job in (straight, done)]
    assert same[0] == same[1]
    steps = [event.data for event in service.tuning.events(done.id, OWNER, limit=1000).data[::-1] if event.data]
    assert [step["step"] for step in steps] == list(range(1, 121))


def test_auto_is_resolved_and_reported_and_the_finish_estimated(service: Service) -> None:
    file = put(service, lines_of([{"prompt": f"say {n}", "completion": f"{n}!"} for n in range(40)]))
    estimates: list[int] = []
    words = {"hyperparameters": {"n_epochs": 8}}
    job = new_job(service, service.files.path(file.id, OWNER).read_bytes(), **words)
    while state(service, job) not in ("succeeded", "failed"):
        now = service.tuning.get(job.id, OWNER)
        estimates += [now.estimated_finish] if now.estimated_finish else []
        time.sleep(0.02)
    done = ended(service, job)
    assert done.status == "succeeded", done.error
    used = done.hyperparameters
    assert used.n_epochs == 8 and isinstance(used.batch_size, int) and used.learning_rate_multiplier == 1.0
    assert estimates and abs(estimates[-1] - (done.finished_at or 0)) <= 5


def test_what_only_a_job_under_way_needs_goes_with_its_end(service: Service) -> None:
    done = ended(service, new_job(service, chat_lines(12), hyperparameters={"n_epochs": 2, "batch_size": 4}))
    assert done.status == "succeeded", done.error
    folder = service.home.path / "jobs" / done.id
    end = time.monotonic() + 20
    while (folder / "train" / "checkpoints").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not (folder / "train" / "checkpoints").exists() and not (folder / "data").exists()
    assert adapter(service, done.fine_tuned_model).exists() and (folder / "plan.yaml").exists()


def test_a_loss_that_is_not_finite_fails_the_job_with_its_step(service: Service) -> None:
    words = {"hyperparameters": {"learning_rate_multiplier": 1e30, "n_epochs": 5, "batch_size": 2}}
    failed = ended(service, new_job(service, chat_lines(12), **words))
    assert failed.status == "failed" and failed.error and failed.error.code == "training_failed"
    assert "step" in failed.error.message and "/" not in failed.error.message and "\n" not in failed.error.message
    assert failed.fine_tuned_model is None and failed.finished_at
    assert messages(service, failed)[-1] == failed.error.message


def test_dpo(service: Service) -> None:
    data = lines_of([pair_row(number) for number in range(12)])
    held_out = put(service, lines_of([pair_row(number) for number in range(50, 60)]))
    words = {"method": "dpo", "validation_file": held_out.id}
    done = ended(
        service, new_job(service, data, **words, hyperparameters={"n_epochs": 2, "batch_size": 4, "beta": 0.3})
    )
    assert done.status == "succeeded", done.error
    assert (done.hyperparameters.beta, done.hyperparameters.n_epochs) == (0.3, 2) and done.trained_tokens
    assert adapter(service, done.fine_tuned_model).exists()
    assert len([event for event in service.tuning.events(done.id, OWNER, limit=99).data if event.data]) == 6


def test_long_examples_are_cut_and_counted(service: Service) -> None:
    long = chat_row(1)
    long["messages"] = [{"role": "user", "content": "x" * 400}, {"role": "assistant", "content": "y" * 400}]
    job = new_job(service, chat_lines(12) + lines_of([long]), hyperparameters={"n_epochs": 1})
    assert ended(service, job).status == "succeeded"
    events = service.tuning.events(job.id, OWNER, limit=100).data
    assert any(event.level == "warn" and event.message.startswith("1 row cut") for event in events)


def test_rows_of_the_data_are_in_no_log_event_or_table(service: Service) -> None:
    rows = [chat_row(n) for n in range(12)]
    rows[3]["messages"] = [{"role": "user", "content": CANARY}, {"role": "assistant", "content": CANARY}]
    job = new_job(service, lines_of(rows), hyperparameters={"learning_rate_multiplier": 1e30, "n_epochs": 9})
    assert ended(service, job).status == "failed"
    folder = service.home.jobs / job.id
    looked_at = [folder / "worker.log", folder / "events.jsonl", *service.home.path.glob("service.db*")]
    assert len(looked_at) == 5
    assert [path.name for path in looked_at if CANARY.encode() in path.read_bytes()] == []


def test_a_full_disk_fails_the_job_and_leaves_the_queue_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, mount = tmp_path / "disk", shutil.which("mount")
    disk.mkdir()
    words = [mount or "", "-t", "tmpfs", "-o", f"size={24 << 20}", "tmpfs", str(disk)]
    if mount is None or subprocess.run(words, capture_output=True).returncode != 0:
        pytest.skip("a small disk cannot be mounted here (that needs root): a full disk is NOT tested")
    try:
        with running(tmp_path, monkeypatch, home=disk) as service:
            job = new_job(service, chat_lines(12), hyperparameters={"n_epochs": 50, "batch_size": 1})
            wait_for(lambda: len(messages(service, job)) > 10)
            fill(disk / "filler")
            failed = ended(service, job)
            assert failed.error and failed.error.code == "disk_full", failed
            assert messages(service, job)[-1] == failed.error.message
            (disk / "filler").unlink()
            after = new_job(service, chat_lines(12), hyperparameters={"n_epochs": 1})
            assert ended(service, after).status == "succeeded"
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(path: Path) -> None:
    """Take all the space there is."""
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 12))
