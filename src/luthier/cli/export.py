"""`luthier export`: write a tuned model in forms that other programs run, each with its certificate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli.options import Json
from luthier.cli.tell import put, put_json, put_table
from luthier.core.errors import RecipeError

if TYPE_CHECKING:
    from luthier.core.certificate import Certificate
    from luthier.export.spec import Form
    from luthier.jobs.export.door import ExportResult

To = Annotated[
    list[str],
    typer.Option(
        "--to",
        metavar="FORM",
        help="merged, adapter, onnx, onnx-int8, onnx-int4, gguf, gguf-q8_0, gguf-q4_0, gguf-q4_k_m, bundle, or auto; "
        "several with commas.",
    ),
]


def export(  # noqa: PLR0913 (each is an option)
    to: To,
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="A run's name or folder.")] = None,
    base: Annotated[
        str | None, typer.Option("--base", metavar="MODEL", help="Instead of a run: a base model's name or folder.")
    ] = None,
    adapters: Annotated[
        str | None,
        typer.Option("--adapters", metavar="A,B,…", help="Adapters for the base: folders in PEFT's format, or runs."),
    ] = None,
    target: Annotated[
        str, typer.Option("--target", metavar="DEVICE", help="For onnx: cpu, cuda, dml, webgpu or trt-rtx.")
    ] = "cpu",
    block_size: Annotated[int, typer.Option("--block-size", help="For onnx: weights that share a scale.")] = 32,
    algorithm: Annotated[str, typer.Option("--algorithm", metavar="NAME", help="For onnx: rtn or k_quant.")] = "rtn",
    wider: Annotated[
        str | None,
        typer.Option("--wider", metavar="PARTS", help="For onnx: layers that keep more bits, such as `0,29,head`."),
    ] = None,
    max_drop: Annotated[
        float, typer.Option("--max-drop", min=0.0, help="How much worse a quantised form's metric may be.")
    ] = 0.01,
    prompts: Annotated[
        int, typer.Option("--prompts", min=1, help="Held-out prompts that it is certified with, at most.")
    ] = 10_000,
    allow_failed: Annotated[
        bool, typer.Option("--allow-failed", help="Export also what does not pass, and record that it was allowed.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where the forms' folders go; the run's by default.")
    ] = None,
    json: Json = False,
) -> None:
    """Write a tuned model in forms that other programs run, and certify each.

    A certificate compares the export, run in its own engine, with the tuned model. What does not pass is kept aside in
    `failed/` and is not called exported.
    """
    from luthier.cli.progress import Progress
    from luthier.jobs.export.door import Wanted, export_wanted

    forms = _forms(to, target=target, block_size=block_size, algorithm=algorithm, wider=wider)
    wanted = Wanted(
        run=run,
        base=base,
        adapters=tuple(name for name in (adapters or "").split(",") if name),
        forms=forms,
        max_drop=max_drop,
        prompts=prompts,
        allow_failed=allow_failed,
        out=out,
    )
    with Progress() as progress:
        result = export_wanted(wanted, progress)
    put_result(result, as_json=json)
    result.raise_failed()


def _forms(
    to: list[str], *, target: str, block_size: int, algorithm: str, wider: str | None
) -> "tuple[Form, ...] | None":
    """Return the forms asked for; None for `auto`."""
    from typing import get_args

    from pydantic import ValidationError
    from rapidfuzz import fuzz, process

    from luthier.export.spec import Algorithm, ExportName, Form, Target

    names = [name for part in to for name in part.split(",") if name]
    known = {
        "--to": (*get_args(ExportName), "auto"),
        "--target": get_args(Target),
        "--algorithm": get_args(Algorithm),
    }
    given = {"--to": names, "--target": [target], "--algorithm": [algorithm]}
    for option, values in given.items():
        for value in values:
            if value not in known[option]:
                nearest = process.extractOne(value, known[option], scorer=fuzz.ratio)
                hint = f"did you mean `{nearest[0]}`? there are {', '.join(known[option])}"
                raise RecipeError(f"`{value}` is not known", where={"option": option}, hint=hint)
    if "auto" in names:
        if len(names) > 1 or wider or block_size != 32 or algorithm != "rtn":
            raise RecipeError("`--to auto` chooses the form and its options itself", hint="leave the others out")
        return None
    parts = tuple(part.strip() for part in (wider or "").split(",") if part.strip())
    try:
        given = {"target": target, "block_size": block_size, "algorithm": algorithm, "wider": parts}
        return tuple(Form.model_validate({"name": name, **given}) for name in names)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = {"option": f"--{first['loc'][0]}".replace("_", "-")} if first["loc"] else {}
        why = str(first["msg"]).removeprefix("Value error, ")
        raise RecipeError("these options cannot be taken", where=where, why=why) from error


def put_result(result: "ExportResult", *, as_json: bool) -> None:
    """Write what was exported, and what its certificates say."""
    if as_json:
        put_json(result.model_dump(mode="json"))
        return
    exported = result.exported
    columns = ["form", "size", "certificate", "same answers", "divergence", "metric"]
    rows = [_row(one.format, one.bytes, one.certificate) for one in result.tried]
    if not rows:
        rows = [
            _row(one.format if name == "model" else f"{one.format} + {name}", one.bytes, certificate)
            for one in exported
            for name, certificate in one.certificates.items()
        ]
    put_table("exports and their certificates", columns, rows)
    for one in exported:
        put(f"{one.format}: {one.folder}")
    if result.chosen:
        put(result.chosen)


def _row(title: str, size: int, certificate: "Certificate") -> list[str]:
    return [
        title,
        f"{size / 1e6:,.0f} MB",
        certificate.result + (f": {certificate.reasons[0]}" if certificate.reasons else ""),
        str(certificate.answers or "–"),
        f"{certificate.divergence.mean:.2g} nats" if certificate.divergence else "–",
        _metric(certificate),
    ]


def _metric(certificate: "Certificate") -> str:
    measured = certificate.measured
    if measured is None:
        return "–"
    interval = f"{measured.low:+.3f} … {measured.high:+.3f}"
    return f"{measured.metric} {measured.export:.3f}, {measured.difference:+.3f} ({interval})"
