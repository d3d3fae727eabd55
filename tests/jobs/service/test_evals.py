"""Evals' runs over crashes, restarts and full disks: each row is judged once, each run ends with a reason."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from tests.api.fakes import pieces_of
from tests.api.graded import CODE, CONFIG, EQUAL, Parts, parts_in
from tests.jobs.service.made import OWNER

from luthier.core.errors import ResourceError
from luthier.jobs.service import eval_judge, eval_runner
from luthier.jobs.service.eval_runner import CRITERIA, EvalRunner
from luthier.jobs.service.eval_shapes import CustomConfig, DataSource
from luthier.jobs.service.refusal import Refusal
from luthier.score.graders.sandbox import IsolationError

SOURCES: TypeAdapter[DataSource] = TypeAdapter(DataSource)
LATE_S = 60
ROOT = Path(__file__).parents[3]


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    parts = parts_in(tmp_path, lambda ask: pieces_of("yes"))
    yield parts
    parts.stop()


def queued(parts: Parts, rows: int, *, criterion: dict[str, Any] = EQUAL, model: bool = False) -> tuple[str, str]:
    config = CustomConfig.model_validate(CONFIG)
    made = parts.evals.create(config, CRITERIA.validate_python([criterion]), OWNER)
    content = [{"item": {"want": "yes"}, "sample": {"output_text": "yes"}} for _ in range(rows)]
    source: dict[str, Any] = {"type": "jsonl", "source": {"type": "file_content", "content": content}}
    if model:
        asked = {"type": "template", "template": [{"role": "user", "content": "say {{ item.want }}"}]}
        source |= {"type": "completions", "model": "tiny", "input_messages": asked}
    return made.id, parts.evals.start_run(made.id, SOURCES.validate_python(source), OWNER).id


def run_of(parts: Parts, ids: tuple[str, str]):
    return parts.evals.run(*ids, OWNER)


def awaited(wanted: Callable[[], Any]) -> Any:
    begin = time.monotonic()
    while time.monotonic() - begin < LATE_S:
        if value := wanted():
            return value
        time.sleep(0.02)
    raise AssertionError("it did not come to pass")


def ended(parts: Parts, ids: tuple[str, str]):
    return awaited(lambda: run if (run := run_of(parts, ids)).status not in ("queued", "in_progress") else None)


def places(parts: Parts, ids: tuple[str, str]) -> list[int]:
    return [item.place for item in parts.evals.items(run_of(parts, ids), limit=1000).data]


def test_a_run_waits_for_the_runner_and_is_done(parts: Parts) -> None:
    ids = queued(parts, 20)
    assert run_of(parts, ids).status == "queued"
    parts.runner.start()
    run = ended(parts, ids)
    assert (run.status, run.metrics.passed, places(parts, ids)) == ("completed", 20, [*range(20)])


def test_runs_are_done_in_their_order(parts: Parts) -> None:
    all_ids = [queued(parts, 3) for _ in range(3)]
    parts.runner.start()
    assert [ended(parts, ids).status for ids in all_ids] == ["completed"] * 3


def test_a_run_goes_on_where_the_last_server_stopped(tmp_path: Path) -> None:
    before = parts_in(tmp_path, lambda ask: pieces_of("yes"))
    before.engine.pause_s = 0.05
    ids = queued(before, 60, model=True)
    before.runner.start()
    awaited(lambda: run_of(before, ids).metrics.passed)
    before.stop()
    after = parts_in(tmp_path, lambda ask: pieces_of("yes"))
    try:
        left = run_of(after, ids)
        assert left.status == "in_progress" and 0 < left.metrics.passed < 60
        assert places(after, ids) == [*range(left.metrics.passed)]
        after.runner.start()
        run = ended(after, ids)
        assert (run.status, run.metrics.passed, run.metrics.usage["tiny"].invocation_count) == ("completed", 60, 60)
        assert places(after, ids) == [*range(60)]
        # What was done before was not asked again.
        assert len(after.engine.asks) == 60 - left.metrics.passed
    finally:
        after.stop()


SERVER = """
import sys, time
from pathlib import Path
from tests.api.graded import parts_in
from tests.api.fakes import pieces_of
parts = parts_in(Path(sys.argv[1]), lambda ask: pieces_of("yes"))
parts.engine.pause_s = 0.02
parts.runner.start()
time.sleep(60)
"""


def test_a_killed_server_loses_and_doubles_nothing(parts: Parts, tmp_path: Path) -> None:
    ids = queued(parts, 60, model=True)
    for kill in range(1, 3):
        server = subprocess.Popen([sys.executable, "-c", SERVER, str(tmp_path)], cwd=ROOT)
        try:
            awaited(lambda: run_of(parts, ids).metrics.passed >= 16 * kill)  # noqa: B023 (called at once)
        finally:
            server.kill()
            server.wait()
    left = run_of(parts, ids)
    assert left.status == "in_progress" and places(parts, ids) == [*range(left.metrics.passed)]
    parts.runner.start()
    run = ended(parts, ids)
    assert (run.status, run.metrics.passed, run.metrics.usage["tiny"].invocation_count) == ("completed", 60, 60)
    assert places(parts, ids) == [*range(60)]


def test_rows_that_kill_every_server_fail_the_run(parts: Parts) -> None:
    ids = queued(parts, 3)
    for _ in range(eval_runner.ATTEMPTS):
        assert parts.service.database.one("claim_eval_run") is not None
    parts.runner.start()
    run = ended(parts, ids)
    assert run.status == "failed" and run.error and "three times" in run.error.message


def test_an_unforeseen_error_ends_its_run_and_no_other(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = queued(parts, 2), queued(parts, 2)
    real, broken = eval_judge.sample_of, [True]

    def once_broken(*given: Any, **named: Any) -> Any:
        if broken:
            broken.clear()
            raise ZeroDivisionError("secret rows")
        return real(*given, **named)

    monkeypatch.setattr(eval_judge, "sample_of", once_broken)
    parts.runner.start()
    failed = ended(parts, first)
    assert failed.error and (failed.error.code, "secret" in failed.error.message) == ("server_error", False)
    assert ended(parts, second).status == "completed"


def test_a_full_disk_is_waited_out(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eval_runner, "RETRY_S", 0.05)
    ids = queued(parts, 2)
    database, full = parts.service.database, [True]
    real = database.query

    def query(name: str, **values: Any) -> Any:
        if name == "finish_eval_run" and full:
            full.clear()
            raise ResourceError("the disk is full")
        return real(name, **values)

    monkeypatch.setattr(database, "query", query)
    parts.runner.start()
    run = ended(parts, ids)
    assert (run.status, run.metrics.passed, places(parts, ids)) == ("completed", 2, [0, 1])


def test_a_deleted_eval_ends_its_run(parts: Parts) -> None:
    parts.engine.pause_s = 0.05
    ids, other = queued(parts, 100, model=True), queued(parts, 1)
    parts.runner.start()
    awaited(lambda: run_of(parts, ids).metrics.passed)
    parts.evals.delete(ids[0], OWNER)
    assert ended(parts, other).status == "completed"
    assert len(parts.engine.asks) < 100


def test_a_busy_engine_is_asked_again(parts: Parts) -> None:
    parts.engine.room = 0
    ids = queued(parts, 2, model=True)
    parts.runner.start()
    time.sleep(0.3)
    assert run_of(parts, ids).status == "in_progress"
    parts.engine.room = 1000
    assert ended(parts, ids).metrics.passed == 2


def test_an_answer_that_fails_is_an_error_of_its_row(parts: Parts) -> None:
    parts.engine.script = lambda ask: [ResourceError("out of memory")]
    ids = queued(parts, 2, model=True)
    parts.runner.start()
    run = ended(parts, ids)
    assert (run.status, run.metrics.errored) == ("completed", 2)
    sample = parts.evals.items(run).data[0].data["sample"]
    assert sample["error"]["code"] == "no_resource" and sample["finish_reason"] == "error"


def test_a_prompt_that_is_too_long_is_an_error_of_its_row(parts: Parts) -> None:
    config = CustomConfig.model_validate(CONFIG)
    made = parts.evals.create(config, CRITERIA.validate_python([EQUAL]), OWNER)
    source = {
        "type": "completions",
        "model": "tiny",
        "input_messages": {"type": "template", "template": [{"role": "user", "content": "long " * 1000}]},
        "source": {"type": "file_content", "content": [{"item": {"want": "yes"}}]},
    }
    run = parts.evals.start_run(made.id, SOURCES.validate_python(source), OWNER)
    parts.runner.start()
    ended(parts, (made.id, run.id))
    (item,) = parts.evals.items(run).data
    assert item.data["sample"]["error"]["code"] == "context_length_exceeded"


def test_without_isolation_a_run_fails_with_the_reason(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = queued(parts, 2, criterion=CODE)

    def none_here(folder: Path) -> None:
        raise IsolationError("python graders cannot be isolated on this machine", why="a test says so")

    monkeypatch.setattr("luthier.jobs.service.grading.ensure_isolated", none_here)
    parts.runner.start()
    run = ended(parts, ids)
    assert run.error and (run.status, run.error.code) == ("failed", "no_isolation")
    assert "a test says so" in run.error.message


def test_stopping_does_not_wait_for_foreign_code(parts: Parts) -> None:
    sleeper = CODE | {"source": "import time\ndef grade(sample, item):\n    time.sleep(60)"}
    ids = queued(parts, 4, criterion=sleeper)
    parts.runner.start()
    awaited(lambda: run_of(parts, ids).status == "in_progress")
    time.sleep(0.5)
    begin = time.monotonic()
    parts.stop()
    assert time.monotonic() - begin < 4
    run = run_of(parts, ids)
    assert (run.status, run.metrics.errored, places(parts, ids)) == ("in_progress", 0, [])


def test_too_much_foreign_code_at_once_is_refused(parts: Parts) -> None:
    with ExitStack() as both:
        both.enter_context(parts.grading.walls())
        both.enter_context(parts.grading.walls())
        with pytest.raises(Refusal) as refused:
            both.enter_context(parts.grading.walls(patience_s=0.01))
    assert (refused.value.status, refused.value.retry_after_s) == (429, 5)
    with parts.grading.walls(patience_s=0.01) as limits:
        assert limits.seconds == 5


def test_a_runner_that_never_began_stops(parts: Parts) -> None:
    runner = EvalRunner(parts.service.database, parts.service.files, parts.grading)
    runner.stop()
    assert runner.grading.stopping.is_set()


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ({"type": "completions", "sampling_params": {"temperature": 0, "seed": 1}}, {"temperature": 0, "seed": 1}),
        (
            {
                "type": "completions",
                "sampling_params": {
                    "response_format": {
                        "type": "json_schema",
                        "json_schema": {"name": "n", "schema": {"type": "object"}},
                    },
                    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
                },
            },
            {
                "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
                "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
            },
        ),
        (
            {
                "type": "responses",
                "sampling_params": {
                    "top_p": 0.5,
                    "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
                    "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
                },
            },
            {
                "top_p": 0.5,
                "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
                "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
            },
        ),
        (
            {"type": "responses", "sampling_params": {"text": {"format": {"type": "json_object"}}}},
            {"response_format": {"type": "json_object"}},
        ),
    ],
)
def test_sampling_is_said_in_chats_words(source: dict[str, Any], options: dict[str, Any]) -> None:
    rows = {"type": "file_content", "content": [{"item": {}}]}
    parsed = SOURCES.validate_python({"source": rows, **source})
    assert parsed.sampling_params.options() == options
