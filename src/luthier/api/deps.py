"""What routes need of the app and of the key that asks."""

from typing import TYPE_CHECKING, Annotated

from fastapi import Header, Request

if TYPE_CHECKING:
    from luthier.jobs.service.once import Once
    from luthier.jobs.service.service import Service

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=255,
        pattern="^[!-~]+$",
        description="Any text of the client's, for 24 hours: a request sent twice with it is done once.",
    ),
]


def service_of(request: Request) -> "Service":
    """Return the app's service."""
    return request.app.state.service


def once_of(request: Request) -> "Once":
    """Return what remembers requests by their Idempotency-Key."""
    return request.app.state.once


def owner_of(request: Request) -> str:
    """Return the project of the key that asks."""
    return request.state.key.project_id


def admin_of(request: Request) -> bool:
    """Return whether the key may do what concerns all projects."""
    return request.state.key.admin
