"""SIGKILL of server and worker at random moments: every job ends well, all is told once, the weights are the same."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.jobs.service.made import OWNER, chat_lines, new_job, settings_of, wait_for, wait_until

from luthier.core.files import sha256_of
from luthier.jobs.service.records import JobRecord
from luthier.jobs.service.service import Service, open_service
from luthier.model.tiny import save_tiny

SERVER = Path(__file__).with_name("server.py")
ROWS, EPOCHS, BATCH = 24, 4, 2
STEPS = ROWS * EPOCHS // BATCH


class Killed:
    """A server process that is killed and started again, and what its home says."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.draw = random.Random(seed)
        self.settings = settings_of(save_tiny(folder / "base", "llama"), lease_s=10.0)
        self.service: Service = open_service(folder / "home", self.settings)
        self.kills = {"server": 0, "worker": 0}
        self.steps_at_kill = 0
        self.start()

    def start(self) -> None:
        words = [sys.executable, str(SERVER), str(self.service.home.path), self.settings.model_dump_json()]
        environment = os.environ | {"LUTHIER_CACHE": str(self.service.home.path.parent / "cache")}
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout and self.process.stdout.readline() == "ready\n"

    def steps(self) -> int:
        """Return how many steps of all jobs were told."""
        with self.service.database.transaction() as connection:
            return connection.execute("select count(*) from events where type = 'metrics'").fetchone()[0]

    def unfinished(self) -> bool:
        with self.service.database.transaction() as connection:
            return connection.execute("select count(*) from jobs where status != 'succeeded'").fetchone()[0] > 0

    def kill_one(self) -> None:
        """Kill the server at any moment, or a worker that has got on a little: one that never does would fail."""
        who = self.draw.choice(["server", "worker"])
        before = self.steps()
        if who == "server" and self.draw.random() < 0.4:
            time.sleep(self.draw.uniform(0.0, 4.0))
        else:
            wait_for(lambda: self.steps() > before or not self.unfinished())
            time.sleep(self.draw.uniform(0.0, 0.6))
        if who == "server":
            self.process.kill()
            self.process.wait()
            self.start()
            self.kills[who] += 1
            return
        workers = psutil.Process(self.process.pid).children()
        with contextlib.suppress(ProcessLookupError, IndexError):
            os.kill(workers[0].pid, signal.SIGKILL)
            self.kills[who] += 1


def weights(service: Service, job: JobRecord) -> str:
    folder = service.catalogue.resolve(job.fine_tuned_model or "", OWNER).adapter
    assert folder is not None
    return sha256_of(folder / "adapter_model.safetensors")


def check_job(service: Service, job: JobRecord, untouched: JobRecord) -> None:
    """Assert that a job ended as the undisturbed one did, and that each thing was told once and in order."""
    assert job.status == "succeeded" and weights(service, job) == weights(service, untouched)
    assert job.trained_tokens == untouched.trained_tokens
    told, wanted = (
        [
            (event.key, event.data)
            for event in service.tuning.events(one.id, OWNER, limit=10_000).data[::-1]
            if not event.key.startswith("requeued-")
        ]
        for one in (job, untouched)
    )
    assert told == wanted
    tables = [service.files.path(one.result_files[0], OWNER).read_bytes() for one in (job, untouched)]
    assert tables[0] == tables[1] and tables[0].count(b"\n") == STEPS + 1
    steps = [[c.step for c in service.tuning.checkpoints(one.id, OWNER).data] for one in (job, untouched)]
    assert steps[0] == steps[1]


def check_survival(folder: Path, *, jobs: int, kills: int, record: Callable[[str, object], None]) -> None:
    killed = Killed(folder, seed=11)
    try:
        service = killed.service
        words = {"seed": 7, "hyperparameters": {"n_epochs": EPOCHS, "batch_size": BATCH}}
        untouched = wait_until(service, new_job(service, chat_lines(ROWS), **words), "succeeded", "failed")
        assert untouched.status == "succeeded", untouched.error

        made = [new_job(service, chat_lines(ROWS), **words) for _ in range(jobs)]
        while sum(killed.kills.values()) < kills and killed.unfinished():
            killed.kill_one()
        for job in made:
            check_job(service, wait_until(service, job, "succeeded", "failed", seconds=300), untouched)
        with service.database.transaction() as connection:
            assert connection.execute("pragma integrity_check").fetchone()[0] == "ok"
            assert connection.execute("select count(*) from jobs").fetchone()[0] == jobs + 1
        known = {path.name for path in service.home.files.iterdir()}
        assert known == {row["id"] for row in service.database.query("file_ids")}
        assert sum(killed.kills.values()) == kills, killed.kills
        record("kills", killed.kills)
    finally:
        killed.process.kill()
        killed.process.wait()


def test_a_few_kills_change_nothing(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    check_survival(tmp_path, jobs=3, kills=8, record=record_property)


@pytest.mark.proof
def test_kills_of_server_and_worker_change_nothing(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record_property("claim", "SIGKILL of server and worker at random moments: all jobs end, events once, same weights")
    record_property("jobs", 10)
    check_survival(tmp_path, jobs=10, kills=30, record=record_property)
