"""The bodies of graders and evals in OpenAI's words; what is unknown is refused by name."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from luthier.jobs.service.eval_shapes import Config, DataSource
from luthier.score.graders.spec import Criterion, Grader

Json = dict[str, Any]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
EvalName = Annotated[str, Field(max_length=512)]


class Body(BaseModel):
    """A request's body."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Told(BaseModel):
    """A part of a reply."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class ValidateGraderRequest(Body):
    """POST /fine_tuning/alpha/graders/validate."""

    grader: Grader


class ValidateGraderResponse(Told):
    """The grader, found good."""

    grader: Grader


class RunGraderRequest(Body):
    """POST /fine_tuning/alpha/graders/run."""

    grader: Grader
    model_sample: Annotated[str, Field(max_length=4_000_000)]
    """The answer to grade: `sample.output_text`, and `sample.output_json` where it is JSON."""
    item: Json | None = None
    """The row that it answers: `item`."""


class CreateEvalRequest(Body):
    """POST /evals."""

    data_source_config: Config
    testing_criteria: Annotated[list[Criterion], Field(min_length=1, max_length=64)]
    name: EvalName | None = None
    metadata: Metadata | None = None


class UpdateEvalRequest(Body):
    """POST /evals/{eval_id}."""

    name: EvalName | None = None
    metadata: Metadata | None = None


class CreateEvalRunRequest(Body):
    """POST /evals/{eval_id}/runs."""

    data_source: DataSource
    name: EvalName | None = None
    metadata: Metadata | None = None


class ConfigReply(Told):
    """What rows look like."""

    type: Literal["custom"]
    schema_: Json = Field(alias="schema")
    """JSON schema of `item`, and of `sample` where criteria use it."""


class Eval(Told):
    """An eval."""

    object: Literal["eval"]
    id: str
    name: str
    created_at: int
    data_source_config: ConfigReply
    testing_criteria: list[Criterion]
    metadata: dict[str, str] | None


class EvalError(Told):
    """Why something failed; both empty where it did not."""

    code: str
    message: str


class ResultCounts(Told):
    """Rows that were judged."""

    total: int
    errored: int
    failed: int
    passed: int


class ModelUsage(Told):
    """What a model has read and written."""

    model_name: str
    invocation_count: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int


class CriterionResult(Told):
    """How often a criterion was met."""

    testing_criteria: str
    passed: int
    failed: int


class EvalRun(Told):
    """A run of an eval."""

    object: Literal["eval.run"]
    id: str
    eval_id: str
    report_url: str
    status: Literal["queued", "in_progress", "completed", "failed", "canceled"]
    model: str
    name: str
    created_at: int
    result_counts: ResultCounts
    per_model_usage: list[ModelUsage]
    per_testing_criteria_results: list[CriterionResult]
    data_source: DataSource
    error: EvalError
    metadata: dict[str, str] | None


class Result(Told):
    """What one criterion says about one row."""

    type: str
    name: str
    score: float
    passed: bool
    metadata: Json
    """How the score came about, and what went wrong."""


class SampleMessage(Told):
    """A message of the prompt."""

    role: str
    content: str


class SampleOutput(Told):
    """A message of the answer."""

    role: str
    content: str | None
    tool_calls: list[Json] | None = None


class SampleUsage(Told):
    """What the answer cost."""

    total_tokens: int
    completion_tokens: int
    prompt_tokens: int
    cached_tokens: int


class Sample(Told):
    """The answer that was judged, and how it came about."""

    input: list[SampleMessage]
    output: list[SampleOutput]
    finish_reason: str
    model: str
    usage: SampleUsage
    error: EvalError
    temperature: float
    max_completion_tokens: int
    top_p: float
    seed: int


class OutputItem(Told):
    """What came of one row."""

    object: Literal["eval.run.output_item"]
    id: str
    run_id: str
    eval_id: str
    created_at: int
    status: Literal["pass", "fail", "error"]
    datasource_item_id: int
    datasource_item: Json
    results: list[Result]
    sample: Sample


class Listed(Told):
    """Part of a list."""

    object: Literal["list"]
    first_id: str | None
    last_id: str | None
    has_more: bool


class EvalList(Listed):
    """Evals."""

    data: list[Eval]


class EvalRunList(Listed):
    """Runs."""

    data: list[EvalRun]


class OutputItemList(Listed):
    """What came of rows."""

    data: list[OutputItem]


class EvalDeleted(Told):
    """An eval is gone."""

    object: Literal["eval.deleted"]
    deleted: Literal[True]
    eval_id: str


class EvalRunDeleted(Told):
    """A run is gone."""

    object: Literal["eval.run.deleted"]
    deleted: Literal[True]
    run_id: str
