"""The thread that works on evals' runs: one after another, some rows at a time, each stored once."""

import itertools
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from pydantic import TypeAdapter

from luthier.core.errors import LuthierError
from luthier.jobs.service.database import Database, as_record
from luthier.jobs.service.eval_judge import Judge, Verdict
from luthier.jobs.service.eval_records import EvalRecord, EvalRunRecord, RunError, Totals, Usage
from luthier.jobs.service.eval_rows import check_rows, rows_of
from luthier.jobs.service.eval_shapes import DataSource, Row
from luthier.jobs.service.files import Files
from luthier.jobs.service.grading import Grading
from luthier.jobs.service.ids import derived_id
from luthier.score.graders.spec import AnyCriterion, Criterion

ROWS_AT_ONCE = 8
"""Rows judged together, so that the engine has several prompts to batch."""
RETRY_S = 10.0
ATTEMPTS = 3
"""Servers that may die over the same rows before a run fails."""
CRITERIA: TypeAdapter[list[AnyCriterion]] = TypeAdapter(list[Criterion])
SOURCES: TypeAdapter[DataSource] = TypeAdapter(DataSource)
log = logging.getLogger(__name__)


class EvalRunner:
    """Works on what is queued, and first on what an earlier server left."""

    def __init__(self, database: Database, files: Files, grading: Grading) -> None:
        self.database = database
        self.files = files
        self.grading = grading
        self._work = threading.Event()
        self._stopping = grading.stopping
        self._thread = threading.Thread(target=self._run, name="evals", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._work.set()
        self._thread.start()

    def wake(self) -> None:
        """Say that something is queued."""
        self._work.set()

    def stop(self) -> None:
        """End after what is under way, which is cut short; an unfinished run goes on at the next start."""
        self.grading.stop()
        self._work.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._work.wait()
            self._work.clear()
            try:
                while not self._stopping.is_set() and (row := self.database.one("claim_eval_run")):
                    self._finish(as_record(EvalRunRecord, row))
            except LuthierError as error:
                # The disk is full, …: nothing could be stored, so it is tried again from the last row that was.
                log.error("evals wait: %s", error.what)
                self._stopping.wait(RETRY_S)
                self._work.set()
        self.database.close()

    def _finish(self, run: EvalRunRecord) -> None:
        """Bring a run to its end, whatever that is."""
        error: RunError | None = None
        try:
            self._judge(run)
        except LuthierError as failure:
            why = f": {failure.why}" if failure.why else ""
            where = "".join(f" ({name} {value})" for name, value in failure.where.items())
            error = RunError(
                code=getattr(failure, "error_code", None) or failure.code, message=failure.what + where + why
            )
        except Exception as failure:  # noqa: BLE001 (this thread serves all runs: whatever it was, this one ends with it)
            log.error("an eval's run ended with %s", type(failure).__name__)
            error = RunError(code="server_error", message=f"The server had an error ({type(failure).__name__}).")
        if not self._stopping.is_set():
            status = "failed" if error else "completed"
            self.database.query(
                "finish_eval_run", id=run.id, status=status, error=error.model_dump() if error else None
            )

    def _judge(self, run: EvalRunRecord) -> None:
        if run.attempt > ATTEMPTS:
            raise LuthierError("the server ended three times while it worked on the same rows")
        row = self.database.one("eval", id=run.eval_id, owner=run.owner)
        if row is None:
            return
        record = as_record(EvalRecord, row)
        source = SOURCES.validate_python(run.data["data_source"])
        judge = Judge(self.grading, source, CRITERIA.validate_python(record.data["testing_criteria"]), run.owner)
        schema = record.data["data_source_config"]["item_schema"]
        check_rows(source.source, schema, self.files, run.owner)

        done = self.database.query("eval_items_done", run_id=run.id)[0]["done"]
        rows = enumerate(rows_of(source.source, self.files, run.owner))
        totals = run.metrics
        with ThreadPoolExecutor(ROWS_AT_ONCE, thread_name_prefix="judge") as pool:
            for group in _groups(itertools.islice(rows, done, None)):
                verdicts = list(pool.map(lambda one: judge.verdict(one[1], one[0]), group))
                if self._stopping.is_set() or not self._keep(run, totals, verdicts, first=group[0][0]):
                    return

    def _keep(self, run: EvalRunRecord, totals: Totals, verdicts: Sequence[Verdict], *, first: int) -> bool:
        """Store what came of some rows, and whether the run goes on: it may have been cancelled or deleted."""
        for verdict in verdicts:
            _count(totals, verdict)
        with self.database.transaction():
            if not self.database.query("advance_eval_run", id=run.id, metrics=totals.model_dump()):
                return False
            for place, verdict in enumerate(verdicts, first):
                self.database.query(
                    "add_eval_item",
                    id=derived_id("outputitem_", run.id, place),
                    run_id=run.id,
                    eval_id=run.eval_id,
                    now=int(time.time()),
                    place=place,
                    status=verdict.status,
                    data=verdict.data,
                )
        return True


def _groups(rows: Iterator[tuple[int, Row]]) -> Iterator[list[tuple[int, Row]]]:
    while group := list(itertools.islice(rows, ROWS_AT_ONCE)):
        yield group


def _count(totals: Totals, verdict: Verdict) -> None:
    totals.passed += verdict.status == "pass"
    totals.failed += verdict.status == "fail"
    totals.errored += verdict.status == "error"
    for judged, met in zip(totals.criteria, verdict.met, strict=True):
        judged.passed += met is True
        judged.failed += met is False
    for reply in verdict.replies:
        used = totals.usage.setdefault(reply.model, Usage())
        used.invocation_count += 1
        used.prompt_tokens += reply.prompt_tokens
        used.completion_tokens += reply.completion_tokens
        used.cached_tokens += reply.cached_tokens
