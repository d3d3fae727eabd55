"""GET /healthz: whether the service works, for what watches over it."""

from typing import Literal

from fastapi import APIRouter, Request

import luthier
from luthier.api.deps import service_of
from luthier.api.shapes_talk import Told
from luthier.jobs.service.refusal import Refusal

router = APIRouter(tags=["health"])


class Health(Told):
    """The service works."""

    status: Literal["ok"]
    version: str


@router.get("/healthz", response_model=Health, operation_id="getHealth")
def get_health(request: Request) -> Health:
    """Tell that the database answers and the queue is worked on; it asks for a key as all routes do."""
    service = service_of(request)
    service.database.query("count_jobs_by_status")
    if not service.supervisor.is_alive:
        raise Refusal("The queue is not worked on; start the server again.", status=503, kind="server_error")
    return Health(status="ok", version=luthier.__version__)
