"""`luthier estimate`."""

from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli.options import Json, RecipeFile, Set
from luthier.cli.tell import put, put_json, put_table

if TYPE_CHECKING:
    from luthier.advise.estimate.result import Cost, GpuEstimate, PlanEstimate

TIMES = ("prepare", "train", "validate", "evaluate", "export", "total")
MINUTE_S, HOUR_S = 60, 3600


def estimate(  # noqa: PLR0913 (a command has as many parameters as options)
    recipe: RecipeFile,
    set_: Set = None,
    gpu: Annotated[
        list[str] | None,
        typer.Option("--gpu", metavar="NAME", help="Also a GPU that is not here, or `all`; several times."),
    ] = None,
    price_per_hour: Annotated[
        float | None,
        typer.Option("--price-per-hour", metavar="PRICE", min=0, help="What an hour here costs."),
    ] = None,
    price_per_kwh: Annotated[
        float | None, typer.Option("--price-per-kwh", metavar="PRICE", min=0, help="What a kilowatt-hour costs.")
    ] = None,
    watts: Annotated[
        float | None, typer.Option("--watts", metavar="WATTS", min=1, help="What this machine takes from the wall.")
    ] = None,
    json: Json = False,
) -> None:
    """Say what a recipe will take before it runs: memory, minutes, disk, cost.

    A few real steps are done and timed; nothing of a run is left. GPUs that are not here are estimated from
    published figures.
    """
    from luthier.advise.estimate.gpus import GPUS, gpu_named
    from luthier.advise.estimate.price import Price
    from luthier.advise.estimate.whole import Asked
    from luthier.cli.progress import Progress
    from luthier.jobs.estimate import estimate_recipe
    from luthier.recipe_io.read import load_recipe

    names = gpu or []
    gpus = GPUS if "all" in names else tuple(gpu_named(name) for name in names)
    price = Price(per_hour=price_per_hour, per_kwh=price_per_kwh, watts=watts)
    asked = load_recipe(recipe, set_ or ())
    with Progress() as progress:
        found = estimate_recipe(asked, progress, asked=Asked(price, gpus)).estimate
    if json:
        put_json(found.model_dump(mode="json") | {"patch": [change.line for change in found.changes]})
    else:
        put_estimate(found)


def put_estimate(found: "PlanEstimate") -> None:
    """Write the table, the verdict, and what would make it fit."""
    put_table(found.machine, ["", "estimate", "source", "because"], _rows(found))
    if found.elsewhere:
        columns = ["GPU", "memory", "fits", "time", *(["cost"] if found.cost else []), "because"]
        put_table("not measured: from published figures", columns, [_gpu_row(gpu) for gpu in found.elsewhere])
    put(_verdict(found))
    for change in found.changes:
        put(f"  --set {change.line}  # {change.because}")


def _rows(found: "PlanEstimate") -> list[list[str]]:
    peak, disk = found.because["peak_memory_bytes"], found.because["disk_bytes"]
    rows = [["peak memory", _size(found.peak_memory_bytes), peak.source, peak.text]]
    for name in TIMES:
        because = found.because[f"{name}_seconds"]
        rows.append([name, duration(getattr(found, f"{name}_seconds")), because.source, because.text])
    parts = ", ".join(f"{name} {_size(size)}" for name, size in found.disk.items() if size)
    rows.append(["disk", _size(found.disk_bytes), disk.source, f"{parts}; {disk.text}"])
    if found.cost:
        rows.append(["cost", _amount(found.cost), found.cost.because.source, found.cost.because.text])
    return rows


def _gpu_row(gpu: "GpuEstimate") -> list[str]:
    memory = f"{_size(gpu.peak_memory_bytes)} of {_size(gpu.memory_bytes)}"
    cost = [_amount(gpu.cost)] if gpu.cost else []
    return [gpu.name, memory, "yes" if gpu.fits else "no", duration(gpu.total_seconds), *cost, gpu.because.text]


def _verdict(found: "PlanEstimate") -> str:
    memory = f"{_size(found.peak_memory_bytes)} of {_size(found.available_memory_bytes)} free memory"
    disk = f"{_size(found.disk_bytes)} of {_size(found.free_disk_bytes)} free disk"
    if found.fits:
        return f"it fits here: {memory}, {disk}"
    hint = "; to make it fit, change the recipe, in this order:" if found.changes else ""
    return f"it does not fit here: {memory}, {disk}{hint}"


def duration(seconds: float) -> str:
    """Return seconds as a person says them."""
    if seconds < 2 * MINUTE_S:
        return f"{seconds:.0f} s"
    return f"{seconds / MINUTE_S:.1f} min" if seconds < 2 * HOUR_S else f"{seconds / HOUR_S:.1f} h"


def _size(count: int) -> str:
    return f"{count / 1e6:,.0f} MB" if count < 1e9 else f"{count / 1e9:,.2f} GB"


def _amount(cost: "Cost") -> str:
    return f"{cost.amount:.3g}" if cost.amount < 100 else f"{cost.amount:,.0f}"
