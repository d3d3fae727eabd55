"""A worker without torch: it does what the first word of its job's suffix says, step by step, and keeps its place."""

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

from luthier.core.events import Event
from luthier.core.files import write_atomic
from luthier.jobs.service import worker
from luthier.jobs.service.ids import Id
from luthier.jobs.service.queue import FencedError
from luthier.jobs.service.report import Reporter
from luthier.jobs.service.service import open_service
from luthier.jobs.service.settings import ServiceSettings

STEPS = 20
STEP_S = 0.02


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path)
    parser.add_argument("--job", type=Id)
    parser.add_argument("--attempt", type=int)
    given = parser.parse_args()
    settings = ServiceSettings.model_validate_json(worker._line_of_the_server())
    threading.Thread(target=worker._die_with_the_server, daemon=True).start()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    service = open_service(given.home, settings)
    job = service.queue.get(given.job)
    if job is None or job.attempt != given.attempt:
        return
    try:
        run(Reporter(service, job), (job.suffix or "steps").split("-")[0])
    except KeyboardInterrupt:
        sys.exit(0 if service.queue.paused(job.id, job.attempt) else 1)
    except FencedError:
        return


def run(report: Reporter, how: str) -> None:
    if how == "memory":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hang":
        os.kill(os.getpid(), signal.SIGSTOP)
    if how == "full":
        sys.exit(28)
    if how == "exit":
        sys.exit(5)
    folder = report.service.home.job(Id(report.job.id))
    place = folder / "place"
    done = int(place.read_text()) if place.exists() else 0
    for step in range(done + 1, STEPS + 1):
        time.sleep(STEP_S if how != "slow" else 10 * STEP_S)
        data = {"step": step, "steps": STEPS, "loss": 1 / step, "seconds_left": 1.0}
        report(Event(room="train", kind="metrics", data=data))
        if step % 2 == 0:
            write_atomic(place, str(step))
        if how == "stumble" and step == done + 5:
            os.kill(os.getpid(), signal.SIGKILL)
    weights = folder / "train" / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    (weights / "adapter_model.safetensors").write_text(str(STEPS))
    report.succeeded(SimpleNamespace(weights=weights, prepared=SimpleNamespace(total_tokens=100)), epochs=3)


if __name__ == "__main__":
    main()
