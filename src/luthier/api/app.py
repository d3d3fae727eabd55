"""The app: the service behind OpenAI's and Azure's doors."""

import contextlib
from collections.abc import AsyncIterator, Sequence

from fastapi import Depends, FastAPI

import luthier
from luthier.api.errors import answer_errors
from luthier.api.guard import Guard
from luthier.api.routes import (
    azure,
    chat,
    completions,
    embeddings,
    evals,
    files,
    fine_tuning,
    graders,
    health,
    metrics,
    models,
    responses,
    uploads,
)
from luthier.jobs.service.eval_runner import EvalRunner
from luthier.jobs.service.evals import Evals
from luthier.jobs.service.files import MAX_BYTES
from luthier.jobs.service.grading import Grading
from luthier.jobs.service.inference import Inference
from luthier.jobs.service.once import Once
from luthier.jobs.service.service import Service

ROUTERS = tuple(
    part.router
    for part in (files, uploads, fine_tuning, graders, evals, models, chat, completions, embeddings, responses)
)
FORM_BYTES = 1 << 20
"""What a form may hold beside its file."""


def make_app(
    service: Service, inference: Inference | None = None, *, hosts: Sequence[str] = (), origins: Sequence[str] = ()
) -> FastAPI:
    """Return the app over an opened service; its lifespan starts and stops all that works in the background."""
    talk = inference or Inference(service, service.settings)
    grading = Grading(service.home.path, service.catalogue, talk)
    runner = EvalRunner(service.database, service.files, grading)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        runner.start()
        try:
            yield
        finally:
            # Answers under way are cut short first: the runner waits for those it has asked for.
            grading.stop()
            talk.close()
            runner.stop()
            service.stop()

    app = FastAPI(
        title="Luthier",
        version=luthier.__version__,
        description="Fine-tuning and inference behind the API your code already uses.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        form_limits={"max_files": 1, "max_fields": 16, "max_part_size": 1 << 16},
    )
    app.state.service, app.state.inference, app.state.grading = service, talk, grading
    app.state.once = Once(service.database)
    app.state.evals = Evals(service.database, service.files, grading, runner.wake)
    _open_doors(app)
    answer_errors(app)
    app.add_middleware(metrics.CountRequests, measures=talk.measures)
    # Last, and so the outermost: nothing behind it is reached without a key.
    app.add_middleware(
        Guard,
        check_key=service.keys.check,
        hosts=hosts,
        origins=origins,
        max_body_bytes=MAX_BYTES + FORM_BYTES,
    )
    return app


def _open_doors(app: FastAPI) -> None:
    """Mount the same rooms at /v1 and, hidden from the document, at Azure's addresses."""
    versioned = [Depends(azure.check_version)]
    for router in ROUTERS:
        app.include_router(router, prefix="/v1")
        app.include_router(router, prefix="/openai/v1", include_in_schema=False)
        app.include_router(router, prefix="/openai", include_in_schema=False, dependencies=versioned)
    app.include_router(azure.router, prefix="/openai", include_in_schema=False, dependencies=versioned)
    app.include_router(azure.management, include_in_schema=False, dependencies=versioned)
    app.include_router(metrics.router)
    app.include_router(health.router)
