"""GET /metrics: the service's numbers for Prometheus; no words of any prompt."""

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luthier.api.talking import inference_of
from luthier.jobs.service.measures import Measures

TEXT = "text/plain; version=0.0.4; charset=utf-8"
router = APIRouter(tags=["metrics"])


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    operation_id="getMetrics",
)
def get_metrics(request: Request) -> Response:
    """Return requests, times, rows, adapters and jobs as numbers."""
    return Response(inference_of(request).measures.text(), headers={"content-type": TEXT})


class CountRequests:
    """Counts each answered request by its route as its router names it: neither ids nor doors become labels."""

    def __init__(self, app: ASGIApp, measures: Measures) -> None:
        self._app = app
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count it when its answer begins."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                self._measures.count_request(scope["method"], route, message["status"])
            await send(message)

        await self._app(scope, receive, counted)
