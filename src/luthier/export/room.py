"""The export room: from tuned weights to folders that other programs load."""

from pathlib import Path

from luthier.core.artifacts import Exports, Trained
from luthier.core.events import Emit, Event
from luthier.export.formats import adapter, merged
from luthier.export.spec import ExportName

FORMATS = {"merged": merged.export, "adapter": adapter.export}


def run(spec: tuple[ExportName, ...], given: Trained, out: Path, emit: Emit, *, card: str = "") -> Exports:
    """Write the model in each form asked for, with its card, and prove that it says the same."""
    out.mkdir(parents=True, exist_ok=True)
    exported = []
    for name in spec:
        emit(Event(room="export", kind="progress", message=f"writing the {name} model"))
        exported.append(FORMATS[name](given, out / name, card=card))
    return Exports(folder=out, exported=exported).write(out)
