"""What the service answers to a request that it cannot do."""

from luthier.core.errors import LuthierError


class Refusal(LuthierError):
    """A request refused, in the words a client of the hosted service knows."""

    code = "refused"
    exit_status = 2
    usual_hint = "docs/moving.md tells what each field takes; the lists of files, jobs and models tell what there is"

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str | None = None,
        param: str | None = None,
        kind: str = "invalid_request_error",
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status."""
        self.error_code = code
        self.param = param
        self.kind = kind
        self.retry_after_s = retry_after_s


def not_found(what: str, name: str, *, param: str = "id") -> Refusal:
    """Return the hosted service's words for a thing that is not there: "No such File object: file-abc"."""
    return Refusal(f"No such {what} object: {name}", status=404, param=param)


def no_model(name: str) -> Refusal:
    """Return the hosted service's words for a model that is not there."""
    return Refusal(f"The model '{name}' does not exist", status=404, code="model_not_found", param="model")
