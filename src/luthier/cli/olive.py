"""`luthier auto-opt` and `luthier generate-adapter`: Olive's commands, with `_` or `-` in the options' names."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli.options import Json
from luthier.cli.tell import say

if TYPE_CHECKING:
    from luthier.jobs.export.door import Wanted

Precision = Annotated[str, typer.Option("--precision", metavar="NAME", help="fp32, fp16 (GPUs), int8 or int4.")]
LogLevel = Annotated[
    int, typer.Option("--log_level", "--log-level", help="0 to 4, as Olive's: from 3 on progress is not shown.")
]
RemoteCode = Annotated[
    bool, typer.Option("--trust_remote_code", "--trust-remote-code", help="Answered: such code never runs here.")
]
QUIET = 3


def auto_opt(  # noqa: PLR0913 (each is an option)
    model: Annotated[
        str, typer.Option("--model_name_or_path", "--model-name-or-path", "-m", metavar="MODEL", help="The base model.")
    ],
    output: Annotated[
        Path, typer.Option("--output_path", "--output-path", "-o", metavar="DIR", help="Where the form's folder goes.")
    ],
    adapter: Annotated[
        str | None, typer.Option("--adapter_path", "--adapter-path", metavar="DIR", help="An adapter in PEFT's format.")
    ] = None,
    device: Annotated[str, typer.Option("--device", metavar="NAME", help="cpu or gpu.")] = "cpu",
    provider: Annotated[
        str | None, typer.Option("--provider", metavar="NAME", help="ONNX Runtime's name, as CPUExecutionProvider.")
    ] = None,
    precision: Precision = "fp32",
    use_ort_genai: Annotated[
        bool,
        typer.Option(
            "--use_ort_genai", "--use-ort-genai", help="What is written is for ONNX Runtime GenAI in any case."
        ),
    ] = True,
    log_level: LogLevel = 1,
    remote_code: RemoteCode = False,
    json: Json = False,
) -> None:
    """Olive's auto-opt: one ONNX model of a base, with an adapter that it can switch on.

    The same as `luthier export --base MODEL --adapters DIR --to onnx`, which it prints.
    """
    from luthier.jobs.doors.olive import AutoOpt
    from luthier.jobs.doors.olive import auto_opt as translate

    if not use_ort_genai:
        say("written for ONNX Runtime GenAI all the same: there is no other form")
    asked = AutoOpt(model, output, adapter=adapter, device=device, provider=provider, precision=precision)
    _export(translate(asked), log_level=log_level, remote_code=remote_code, as_json=json)


def generate_adapter(  # noqa: PLR0913 (each is an option)
    base: Annotated[
        str, typer.Option("--base_model_path", "--base-model-path", metavar="MODEL", help="The base model.")
    ],
    adapters: Annotated[
        str, typer.Option("--adapter_paths", "--adapter-paths", metavar="A,B,…", help="Adapters in PEFT's format.")
    ],
    output: Annotated[
        Path, typer.Option("--output_path", "--output-path", "-o", metavar="DIR", help="Where the form's folder goes.")
    ],
    precision: Precision = "fp32",
    log_level: LogLevel = 1,
    remote_code: RemoteCode = False,
    json: Json = False,
) -> None:
    """Olive's generate-adapter: one ONNX model and several adapters that it switches between.

    The same as `luthier export --base MODEL --adapters A,B --to onnx`, which it prints.
    """
    from luthier.jobs.doors.olive import generate_adapter as translate

    wanted = translate(base, adapters, output, precision)
    _export(wanted, log_level=log_level, remote_code=remote_code, as_json=json)


def _export(wanted: "Wanted", *, log_level: int, remote_code: bool, as_json: bool) -> None:
    import contextlib

    from luthier.cli.export import put_result
    from luthier.cli.progress import Progress
    from luthier.jobs.doors.olive import REMOTE_CODE, as_command
    from luthier.jobs.export.door import export_wanted

    if remote_code:
        say(f"--trust_remote_code: {REMOTE_CODE}")
    say(f"the same as: {as_command(wanted)}")
    with contextlib.ExitStack() as stack:
        heard = stack.enter_context(Progress()) if log_level < QUIET else lambda event: None
        result = export_wanted(wanted, heard)
    put_result(result, as_json=as_json)
    result.raise_failed()
