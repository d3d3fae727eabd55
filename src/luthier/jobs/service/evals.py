"""Evals as a client sees them: made, run, looked at, cancelled, deleted."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from luthier.core.errors import DataError, LuthierError
from luthier.jobs.service.asking import grammar_of
from luthier.jobs.service.database import Database, as_page, as_record, check_limit
from luthier.jobs.service.eval_records import (
    EvalItemRecord,
    EvalRecord,
    EvalRunRecord,
    ItemStatus,
    Judged,
    RunStatus,
    Totals,
)
from luthier.jobs.service.eval_rows import check_rows, check_schema
from luthier.jobs.service.eval_shapes import CustomConfig, DataSource, FileContent, JsonlSource
from luthier.jobs.service.files import Files
from luthier.jobs.service.grading import Grading
from luthier.jobs.service.ids import new_id
from luthier.jobs.service.records import Page
from luthier.jobs.service.refusal import Refusal, not_found
from luthier.score.graders.spec import AnyCriterion

Order = Literal["asc", "desc"]


class Evals:
    """The evals of all projects; those of another project are not there."""

    def __init__(self, database: Database, files: Files, grading: Grading, wake: Callable[[], None]) -> None:
        """Take what is needed, and how to tell the runner that there is work."""
        self.database = database
        self.files = files
        self.grading = grading
        self._wake = wake

    def create(
        self,
        config: CustomConfig,
        criteria: Sequence[AnyCriterion],
        owner: str,
        *,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> EvalRecord:
        """Store an eval once all of its criteria can be judged."""
        check_schema(config.item_schema)
        for place, criterion in enumerate(criteria):
            self.grading.validate(criterion, owner, param=f"testing_criteria[{place}]")
        data = {
            "data_source_config": config.model_dump(),
            "testing_criteria": [criterion.model_dump(exclude_none=True) for criterion in criteria],
        }
        id = new_id("eval_")
        self.database.query(
            "add_eval", id=id, owner=owner, now=int(time.time()), name=name or "", metadata=_kept(metadata), data=data
        )
        return self.get(id, owner)

    def get(self, id: str, owner: str) -> EvalRecord:
        """Return an eval."""
        row = self.database.one("eval", id=id, owner=owner)
        if row is None:
            raise not_found("Eval", id, param="eval_id")
        return as_record(EvalRecord, row)

    def list(
        self, owner: str, *, limit: int = 20, after: str | None = None, order: Order = "asc", by_update: bool = False
    ) -> Page[EvalRecord]:
        """Return a project's evals, the oldest or the one longest unchanged first unless asked otherwise."""
        if after is not None:
            self._check_after(self.get, after, owner)
        name = "evals_up" if order == "asc" else "evals_down"
        rows = self.database.query(name, owner=owner, after=after, by_update=by_update, limit=check_limit(limit))
        return as_page(rows, limit, lambda row: as_record(EvalRecord, row))

    def update(
        self, id: str, owner: str, *, name: str | None, metadata: Mapping[str, str] | None, with_metadata: bool
    ) -> EvalRecord:
        """Change the name where one is given, and the metadata where asked to."""
        values = {"name": name, "metadata": _kept(metadata), "with_metadata": with_metadata, "now": int(time.time())}
        row = self.database.one("update_eval", id=id, owner=owner, **values)
        if row is None:
            raise not_found("Eval", id, param="eval_id")
        return as_record(EvalRecord, row)

    def delete(self, id: str, owner: str) -> None:
        """Remove an eval with its runs; those under way end."""
        if self.database.one("delete_eval", id=id, owner=owner) is None:
            raise not_found("Eval", id, param="eval_id")

    def start_run(
        self,
        eval_id: str,
        source: DataSource,
        owner: str,
        *,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> EvalRunRecord:
        """Queue a run over some rows."""
        record = self.get(eval_id, owner)
        model = self._check_source(record, source, owner)
        criteria = [criterion["name"] for criterion in record.data["testing_criteria"]]
        id = new_id("evalrun_")
        self.database.query(
            "add_eval_run",
            id=id,
            eval_id=eval_id,
            owner=owner,
            now=int(time.time()),
            name=name or "",
            model=model,
            metadata=_kept(metadata),
            data={"data_source": source.model_dump(exclude_none=True, by_alias=True), "criteria": criteria},
            metrics=Totals(criteria=[Judged() for _ in criteria]).model_dump(),
        )
        self._wake()
        return self.run(eval_id, id, owner)

    def run(self, eval_id: str, id: str, owner: str) -> EvalRunRecord:
        """Return a run."""
        row = self.database.one("eval_run", id=id, eval_id=eval_id, owner=owner)
        if row is None:
            raise not_found("EvalRun", id, param="run_id")
        return as_record(EvalRunRecord, row)

    def runs(
        self,
        eval_id: str,
        owner: str,
        *,
        limit: int = 20,
        after: str | None = None,
        order: Order = "asc",
        status: RunStatus | None = None,
    ) -> Page[EvalRunRecord]:
        """Return an eval's runs, oldest first unless asked otherwise."""
        self.get(eval_id, owner)
        if after is not None:
            self._check_after(lambda id, owner: self.run(eval_id, id, owner), after, owner)
        query = "eval_runs_up" if order == "asc" else "eval_runs_down"
        values = {"eval_id": eval_id, "owner": owner, "after": after, "status": status}
        rows = self.database.query(query, limit=check_limit(limit), **values)
        return as_page(rows, limit, lambda row: as_record(EvalRunRecord, row))

    def cancel_run(self, eval_id: str, id: str, owner: str) -> EvalRunRecord:
        """End a run after the rows that are under way; one that has ended stays as it is."""
        self.run(eval_id, id, owner)
        self.database.query("cancel_eval_run", id=id, eval_id=eval_id, owner=owner)
        return self.run(eval_id, id, owner)

    def delete_run(self, eval_id: str, id: str, owner: str) -> None:
        """Remove a run and what came of it."""
        if self.database.one("delete_eval_run", id=id, eval_id=eval_id, owner=owner) is None:
            raise not_found("EvalRun", id, param="run_id")

    def item(self, eval_id: str, run_id: str, id: str, owner: str) -> EvalItemRecord:
        """Return what came of one row."""
        self.run(eval_id, run_id, owner)
        row = self.database.one("eval_item", id=id, run_id=run_id)
        if row is None:
            raise not_found("EvalRunOutputItem", id, param="output_item_id")
        return as_record(EvalItemRecord, row)

    def items(
        self,
        run: EvalRunRecord,
        *,
        limit: int = 20,
        after: str | None = None,
        order: Order = "asc",
        status: ItemStatus | None = None,
    ) -> Page[EvalItemRecord]:
        """Return what came of a run's rows, in their order unless asked otherwise."""
        if after is not None:
            self._check_after(lambda id, owner: self.item(run.eval_id, run.id, id, owner), after, run.owner)
        query = "eval_items_up" if order == "asc" else "eval_items_down"
        values = {"run_id": run.id, "after": after, "status": status}
        rows = self.database.query(query, limit=check_limit(limit), **values)
        return as_page(rows, limit, lambda row: as_record(EvalItemRecord, row))

    def _check_source(self, record: EvalRecord, source: DataSource, owner: str) -> str:
        """Return the model that answers first, or nothing; Refusal for what can be known to fail."""
        model = "" if isinstance(source, JsonlSource) else self._check_model(source, owner)
        rows = source.source
        if not isinstance(rows, FileContent):
            # A file is read when the run begins: it may be long.
            self.files.get(rows.id, owner)
            return model
        schema = record.data["data_source_config"]["item_schema"]
        try:
            check_rows(rows, schema, self.files, owner)
        except DataError as error:
            message = f"Invalid data source: {error.what}."
            raise Refusal(message, code="invalid_data_source", param="data_source.source.content") from error
        return model

    def _check_model(self, source: Any, owner: str) -> str:
        if (source.model is None) != (source.input_messages is None):
            missing = "model" if source.model is None else "input_messages"
            param = f"data_source.{missing}"
            raise Refusal(f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)
        if source.model is None:
            return ""
        self.grading.catalogue.resolve(source.model, owner)
        try:
            grammar_of(source.sampling_params.options().get("response_format", {}) if source.sampling_params else {})
        except LuthierError as error:
            message = f"Invalid schema: {error.why or error.what}."
            raise Refusal(message, code="invalid_json_schema", param="data_source.sampling_params") from error
        return str(source.model)

    @staticmethod
    def _check_after(find: Callable[[str, str], object], after: str, owner: str) -> None:
        try:
            find(after, owner)
        except Refusal as refused:
            raise Refusal(refused.what, status=refused.status, param="after") from refused


def _kept(metadata: Mapping[str, str] | None) -> dict[str, str] | None:
    return None if metadata is None else dict(metadata)
