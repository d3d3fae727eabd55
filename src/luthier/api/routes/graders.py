"""POST /fine_tuning/alpha/graders/…: graders are checked, and tried on one answer."""

from typing import Any

from fastapi import APIRouter, Request

from luthier.api.deps import owner_of
from luthier.api.shapes_evals import RunGraderRequest, ValidateGraderRequest, ValidateGraderResponse
from luthier.jobs.service.grading import Grading
from luthier.score.graders.graded import Graded

router = APIRouter(prefix="/fine_tuning/alpha/graders", tags=["graders"])


def grading_of(request: Request) -> Grading:
    """Return the app's grading."""
    return request.app.state.grading


@router.post(
    "/validate",
    response_model=ValidateGraderResponse,
    response_model_exclude_unset=True,
    operation_id="validateGrader",
)
def validate_grader(request: Request, body: ValidateGraderRequest) -> Any:
    """Check a grader: its formula, the variables and models that it names, and its source, which is not run."""
    grading_of(request).validate(body.grader, owner_of(request))
    return {"grader": body.grader}


@router.post("/run", response_model=Graded, operation_id="runGrader")
def run_grader(request: Request, body: RunGraderRequest) -> Any:
    """Grade one answer; what goes wrong is told in the reply's `metadata.errors`."""
    return grading_of(request).run(body.grader, body.model_sample, body.item or {}, owner_of(request))
