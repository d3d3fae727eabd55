"""`luthier keys` and `luthier deployments`: who may ask, and Azure's names for models."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli.options import Home, Json
from luthier.cli.serve import home_of
from luthier.cli.tell import put, put_json, put_table, say

if TYPE_CHECKING:
    from luthier.jobs.service.service import Service

keys = typer.Typer(help="Make, list and revoke the service's API keys.", no_args_is_help=True)
deployments = typer.Typer(help="Give tuned models the names that Azure's clients ask for.", no_args_is_help=True)
Project = Annotated[str, typer.Option("--project", metavar="ID", help="Keys of one project see the same things.")]


@contextlib.contextmanager
def opened(home: Path | None) -> Iterator["Service"]:
    """Yield the service, also while a server works on it."""
    from luthier.jobs.service.service import open_service

    service = open_service(home_of(home))
    try:
        yield service
    finally:
        service.database.close()


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    project: Project = "default",
    admin: Annotated[bool, typer.Option("--admin", help="May say who uses a checkpoint.")] = False,
    home: Home = None,
    json: Json = False,
) -> None:
    """Make a key. Its secret is shown here and never again."""
    with opened(home) as service:
        key, secret = service.keys.create(name, project_id=project, admin=admin)
    if json:
        put_json({**key.model_dump(), "secret": secret})
        return
    put(secret)
    say(f"{key.id}: shown once; only its hash is kept")


@keys.command("list")
def list_keys(home: Home = None, json: Json = False) -> None:
    """List the keys by their last characters."""
    with opened(home) as service:
        found = service.keys.list()
    if json:
        put_json([key.model_dump() for key in found])
        return
    rows = [
        [key.id, key.name, f"…{key.last4}", key.project_id, "admin" if key.admin else "", _day(key.revoked_at)]
        for key in found
    ]
    put_table("", ["key", "name", "ends in", "project", "", "revoked"], rows)


@keys.command("revoke")
def revoke_key(key: Annotated[str, typer.Argument(help="The key's id.")], home: Home = None) -> None:
    """Refuse a key from now on."""
    with opened(home) as service:
        say(f"revoked: {service.keys.revoke(key).id}")


@deployments.command("create")
def create_deployment(
    name: Annotated[str, typer.Argument(help="The name clients ask for.")],
    model: Annotated[str, typer.Argument(help="A base, a tuned model or a checkpoint.")],
    project: Project = "default",
    home: Home = None,
) -> None:
    """Give a model a name, or a name another model."""
    with opened(home) as service:
        made = service.deployments.put(name, model, project)
    put(f"{made.id} → {made.model}")


@deployments.command("list")
def list_deployments(project: Project = "default", home: Home = None, json: Json = False) -> None:
    """List a project's deployments."""
    with opened(home) as service:
        found = service.deployments.list(project)
    if json:
        put_json([one.model_dump() for one in found])
        return
    put_table("", ["deployment", "model", "made"], [[one.id, one.model, _day(one.created_at)] for one in found])


@deployments.command("delete")
def delete_deployment(
    name: Annotated[str, typer.Argument(help="The deployment's name.")], project: Project = "default", home: Home = None
) -> None:
    """Take a name away; the model stays."""
    with opened(home) as service:
        service.deployments.delete(name, project)
    say(f"deleted: {name}")


def _day(seconds: int | None) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(seconds)) if seconds else ""
