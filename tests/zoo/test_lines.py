"""Training files with one bad line: the service names it, at the upload or before the job is queued."""

import io
import json
import random
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.data.made import questions
from tests.data.test_malformed import MUTATIONS
from tests.zoo.served import build_service

from luthier.jobs.service.examine import examine
from luthier.jobs.service.ids import Id
from luthier.jobs.service.refusal import Refusal
from luthier.jobs.service.service import Service
from luthier.jobs.service.tuning import NewJob


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    return build_service(tmp_path_factory.mktemp("lines"), Path("nowhere"))


def check_lines(service: Service, count: int) -> None:
    names, wrong = sorted(MUTATIONS), []
    for number in range(count):
        draw = random.Random(number)
        name = names[number % len(names)]
        lines = [json.dumps(row).encode() for row in questions(draw.randint(11, 40), seed=number)]
        at = draw.randrange(len(lines))
        lines[at] = MUTATIONS[name](lines[at].decode())
        said = verdict(service, b"\n".join(lines))
        if set(re.findall(r"(?:Line|Example) (\d+)", said)) != {str(at + 1)}:
            wrong.append(f"{name} in line {at + 1}: {said[:200]}")
    assert not wrong, "\n".join(wrong)


def verdict(service: Service, content: bytes) -> str:
    """Return what the service says about a training file, at its upload or before its job is queued."""
    try:
        file = service.files.create(io.BytesIO(content), filename="a.jsonl", purpose="fine-tune", owner="one")
    except Refusal as refusal:
        return refusal.what
    job = service.tuning.create(NewJob(model="tiny", training_file=file.id), "one")
    error = examine(job, service.home.job(Id(job.id)), threading.Event())
    service.tuning.cancel(job.id, "one")
    service.files.delete(file.id, "one")
    return error.message if error else "nothing is wrong"


def test_d1_one_bad_line_is_named(service: Service) -> None:
    check_lines(service, 200)


@pytest.mark.proof
def test_d1_ten_thousand_bad_lines_are_named(service: Service, record_property: Any) -> None:
    record_property("claim", "10,000 uploads with one broken line: the service names that line")
    check_lines(service, 10_000)


def test_d1_no_good_file_is_refused(service: Service) -> None:
    for number in range(100):
        rows = questions(random.Random(number).randint(10, 40), seed=number)
        assert verdict(service, "\n".join(map(json.dumps, rows)).encode()) == "nothing is wrong"
