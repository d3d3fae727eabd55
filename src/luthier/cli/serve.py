"""`luthier serve`: the API, its queue and its models in one process."""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli.options import Home
from luthier.cli.tell import put, say
from luthier.core.errors import RecipeError

if TYPE_CHECKING:
    from luthier.jobs.service.settings import ServiceSettings

NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "llguidance")
DOOR = "luthier.api.main"
"""Called by its name: the command line and the API do not know each other."""


def serve(  # noqa: PLR0913 (a command's options)
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 takes a free one.")] = 8765,
    home: Home = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME=FOLDER", help="An export to offer, beside what service.yaml names."),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine", metavar="NAME", help="The engine that must run the models: transformers, onnx, llama.cpp."
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", metavar="NAME", help="Another name clients may ask for.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option("--allow-origin", metavar="URL", help="A web page's origin that may ask, such as a proxy's."),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="FILE", help="Certificate chain (PEM).")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="Its private key (PEM).")] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="Listen without TLS beyond this machine: a proxy in front has it.")
    ] = False,
) -> None:
    """Serve the API that OpenAI's and Azure's clients speak.

    Point a script at it: OPENAI_BASE_URL=http://127.0.0.1:8765/v1 OPENAI_API_KEY=sk-ft-…
    """
    check_installed()
    check_tls(tls_cert, tls_key)
    where = home_of(home)
    is_first = check_reach(host, where, is_private=tls_cert is not None or behind_proxy)
    if is_first:
        put(first_key(where))
        # At once, also into a file: whoever starts the server for a program waits for it.
        sys.stdout.flush()
        say("this key is shown once; `luthier keys create` makes others")
    settings = settings_of(where, model or [], engine)
    door = importlib.import_module(DOOR)
    address = door.Address(host, port, tuple(allow_host or ()), tuple(allow_origin or ()), tls_cert, tls_key)
    door.serve(where, address, lambda text: say(f"serving at {text}, home {where}; Ctrl-C stops"), settings)
    say("stopped; jobs under way go on at the next start")


def home_of(home: Path | None) -> Path:
    """Return the service's home."""
    from luthier.core.settings import home_dir

    return (home or home_dir()).expanduser().absolute()


def settings_of(home: Path, models: list[str], engine: str | None) -> "ServiceSettings":
    """Return the home's settings with what the command line adds."""
    from luthier.jobs.service.home import open_home
    from luthier.jobs.service.settings import read_settings, with_models

    return with_models(read_settings(open_home(home).settings), models, engine)


def check_installed() -> None:
    """Refuse to serve where the extra is not installed."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        hint = "pip install 'luthier[serve]'"
        raise RecipeError("the service is not installed", why=f"{', '.join(missing)} is missing", hint=hint)


def check_tls(certificate: Path | None, key: Path | None) -> None:
    """Refuse half of a pair, and files that are no certificate with its key."""
    if (certificate is None) != (key is None):
        raise RecipeError("`--tls-cert` and `--tls-key` go together", hint="give both, or neither")
    if certificate is None or key is None:
        return
    import ssl

    for path in (certificate, key):
        if not path.is_file():
            raise RecipeError("there is no such file", where={"file": path}, hint="name a PEM file")
    try:
        # With a password at hand, so that a locked key is an error and not a question.
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, password="")
    except OSError as error:
        hint = "name PEM files that belong together, without a password"
        where = {"certificate": certificate, "key": key}
        raise RecipeError("TLS cannot be used with these files", where=where, why=str(error), hint=hint) from error


def check_reach(host: str, home: Path, *, is_private: bool) -> bool:
    """Say whether the home has no key yet; beyond this machine a key must be there, and the way be private."""
    from luthier.jobs.service.service import open_service

    service = open_service(home)
    try:
        is_first = not any(key.revoked_at is None for key in service.keys.list())
    finally:
        service.database.close()
    if is_loopback(host):
        return is_first
    if is_first:
        hint = "make one first: `luthier keys create NAME`"
        raise RecipeError(
            "this address is reached from other machines, and there is no key", where={"host": host}, hint=hint
        )
    if not is_private:
        hint = "give `--tls-cert` and `--tls-key`, or `--behind-proxy` where a proxy has TLS"
        raise RecipeError("keys would cross the network in the clear", where={"host": host}, hint=hint)
    return False


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches the address; a name other than localhost may be anything."""
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def first_key(home: Path) -> str:
    """Make the home's first key and return its secret."""
    from luthier.jobs.service.service import open_service

    service = open_service(home)
    try:
        return service.keys.create("first", admin=True)[1]
    finally:
        service.database.close()
