"""/evals: criteria for answers, runs of them over rows, and what came of each row."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Query, Request

from luthier.api.deps import owner_of
from luthier.api.shapes_evals import (
    CreateEvalRequest,
    CreateEvalRunRequest,
    Eval,
    EvalDeleted,
    EvalList,
    EvalRun,
    EvalRunDeleted,
    EvalRunList,
    Json,
    OutputItem,
    OutputItemList,
    UpdateEvalRequest,
)
from luthier.jobs.service.eval_judge import NO_ERROR
from luthier.jobs.service.eval_records import EvalItemRecord, EvalRecord, EvalRunRecord, RunStatus
from luthier.jobs.service.evals import Evals, Order
from luthier.jobs.service.records import Page, Record

router = APIRouter(prefix="/evals", tags=["evals"])
Limit = Annotated[int, Query(ge=1, le=100)]
R = TypeVar("R", bound=Record)


def evals_of(request: Request) -> Evals:
    """Return the app's evals."""
    return request.app.state.evals


@router.post("", status_code=201, response_model=Eval, response_model_exclude_unset=True, operation_id="createEval")
def create_eval(request: Request, body: CreateEvalRequest) -> Any:
    """Store what rows look like and how answers to them are judged."""
    made = evals_of(request).create(
        body.data_source_config, body.testing_criteria, owner_of(request), name=body.name, metadata=body.metadata
    )
    return eval_shape(made)


@router.get("", response_model=EvalList, response_model_exclude_unset=True, operation_id="listEvals")
def list_evals(
    request: Request,
    after: str | None = None,
    limit: Limit = 20,
    order: Order = "asc",
    order_by: Literal["created_at", "updated_at"] = "created_at",
) -> Any:
    """List a project's evals."""
    page = evals_of(request).list(
        owner_of(request), limit=limit, after=after, order=order, by_update=order_by == "updated_at"
    )
    return listed(page, eval_shape)


@router.get("/{eval_id}", response_model=Eval, response_model_exclude_unset=True, operation_id="getEval")
def get_eval(request: Request, eval_id: str) -> Any:
    """Return an eval."""
    return eval_shape(evals_of(request).get(eval_id, owner_of(request)))


@router.post("/{eval_id}", response_model=Eval, response_model_exclude_unset=True, operation_id="updateEval")
def update_eval(request: Request, eval_id: str, body: UpdateEvalRequest) -> Any:
    """Change an eval's name or metadata; what is left out stays."""
    changed = evals_of(request).update(
        eval_id,
        owner_of(request),
        name=body.name,
        metadata=body.metadata,
        with_metadata="metadata" in body.model_fields_set,
    )
    return eval_shape(changed)


@router.delete("/{eval_id}", response_model=EvalDeleted, operation_id="deleteEval")
def delete_eval(request: Request, eval_id: str) -> Any:
    """Remove an eval with its runs."""
    evals_of(request).delete(eval_id, owner_of(request))
    return {"object": "eval.deleted", "deleted": True, "eval_id": eval_id}


@router.post(
    "/{eval_id}/runs",
    status_code=201,
    response_model=EvalRun,
    response_model_exclude_unset=True,
    operation_id="createEvalRun",
)
def create_run(request: Request, eval_id: str, body: CreateEvalRunRequest) -> Any:
    """Queue a run over rows: as they are, or answered by a model first."""
    run = evals_of(request).start_run(
        eval_id, body.data_source, owner_of(request), name=body.name, metadata=body.metadata
    )
    return run_shape(run, request)


@router.get(
    "/{eval_id}/runs", response_model=EvalRunList, response_model_exclude_unset=True, operation_id="getEvalRuns"
)
def list_runs(
    request: Request,
    eval_id: str,
    after: str | None = None,
    limit: Limit = 20,
    order: Order = "asc",
    status: RunStatus | None = None,
) -> Any:
    """List an eval's runs."""
    page = evals_of(request).runs(eval_id, owner_of(request), limit=limit, after=after, order=order, status=status)
    return listed(page, lambda run: run_shape(run, request))


@router.get(
    "/{eval_id}/runs/{run_id}", response_model=EvalRun, response_model_exclude_unset=True, operation_id="getEvalRun"
)
def get_run(request: Request, eval_id: str, run_id: str) -> Any:
    """Return a run with its counts so far."""
    return run_shape(evals_of(request).run(eval_id, run_id, owner_of(request)), request)


@router.post(
    "/{eval_id}/runs/{run_id}",
    response_model=EvalRun,
    response_model_exclude_unset=True,
    operation_id="cancelEvalRun",
)
@router.post(
    "/{eval_id}/runs/{run_id}/cancel",
    response_model=EvalRun,
    response_model_exclude_unset=True,
    operation_id="cancelEvalRunByName",
)
def cancel_run(request: Request, eval_id: str, run_id: str) -> Any:
    """End a run; the address without `cancel` is what clients up to 3.3 use."""
    return run_shape(evals_of(request).cancel_run(eval_id, run_id, owner_of(request)), request)


@router.delete("/{eval_id}/runs/{run_id}", response_model=EvalRunDeleted, operation_id="deleteEvalRun")
def delete_run(request: Request, eval_id: str, run_id: str) -> Any:
    """Remove a run and what came of it."""
    evals_of(request).delete_run(eval_id, run_id, owner_of(request))
    return {"object": "eval.run.deleted", "deleted": True, "run_id": run_id}


@router.get(
    "/{eval_id}/runs/{run_id}/output_items",
    response_model=OutputItemList,
    response_model_exclude_unset=True,
    operation_id="getEvalRunOutputItems",
)
def list_items(  # noqa: PLR0913 (the documented query)
    request: Request,
    eval_id: str,
    run_id: str,
    after: str | None = None,
    limit: Limit = 20,
    order: Order = "asc",
    status: Literal["pass", "fail", "error"] | None = None,
) -> Any:
    """List what came of a run's rows, in their order."""
    evals = evals_of(request)
    run = evals.run(eval_id, run_id, owner_of(request))
    return listed(evals.items(run, limit=limit, after=after, order=order, status=status), item_shape)


@router.get(
    "/{eval_id}/runs/{run_id}/output_items/{output_item_id}",
    response_model=OutputItem,
    response_model_exclude_unset=True,
    operation_id="getEvalRunOutputItem",
)
def get_item(request: Request, eval_id: str, run_id: str, output_item_id: str) -> Any:
    """Return what came of one row."""
    return item_shape(evals_of(request).item(eval_id, run_id, output_item_id, owner_of(request)))


def listed(page: Page[R], shape: Callable[[R], Json]) -> Json:
    """Return a page as OpenAI lists things."""
    ids = [record.id for record in page.data]
    return {
        "object": "list",
        "data": [shape(record) for record in page.data],
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
        "has_more": page.has_more,
    }


def eval_shape(record: EvalRecord) -> Json:
    """Return an eval as OpenAI writes it."""
    config = record.data["data_source_config"]
    names = ["item", "sample"] if config["include_sample_schema"] else ["item"]
    shapes = {"item": config["item_schema"], "sample": {"type": "object"}}
    schema = {"type": "object", "properties": {name: shapes[name] for name in names}, "required": names}
    return {
        "object": "eval",
        "id": record.id,
        "name": record.name,
        "created_at": record.created_at,
        "data_source_config": {"type": "custom", "schema": schema},
        "testing_criteria": record.data["testing_criteria"],
        "metadata": record.metadata,
    }


def run_shape(record: EvalRunRecord, request: Request) -> Json:
    """Return a run as OpenAI writes it; the report is the run itself, there is no page for it."""
    totals = record.metrics
    counts = {"errored": totals.errored, "failed": totals.failed, "passed": totals.passed}
    usage = [
        {"model_name": name, **used.model_dump(), "total_tokens": used.prompt_tokens + used.completion_tokens}
        for name, used in totals.usage.items()
    ]
    results = [
        {"testing_criteria": name, **judged.model_dump()}
        for name, judged in zip(record.data["criteria"], totals.criteria, strict=True)
    ]
    return {
        "object": "eval.run",
        "id": record.id,
        "eval_id": record.eval_id,
        "report_url": f"{request.base_url}v1/evals/{record.eval_id}/runs/{record.id}",
        "status": record.status,
        "model": record.model,
        "name": record.name,
        "created_at": record.created_at,
        "result_counts": {"total": sum(counts.values()), **counts},
        "per_model_usage": usage,
        "per_testing_criteria_results": results,
        "data_source": record.data["data_source"],
        "error": record.error.model_dump() if record.error else NO_ERROR,
        "metadata": record.metadata,
    }


def item_shape(record: EvalItemRecord) -> Json:
    """Return what came of a row as OpenAI writes it."""
    return {
        "object": "eval.run.output_item",
        "id": record.id,
        "run_id": record.run_id,
        "eval_id": record.eval_id,
        "created_at": record.created_at,
        "status": record.status,
        **record.data,
    }
