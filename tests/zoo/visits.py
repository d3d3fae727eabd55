"""What the watched Python does with the animals: the same functions that the program calls on files of strangers."""

import json
import time
from pathlib import Path
from typing import Any

from luthier.core.events import Event


def _ignore(event: Event) -> None:
    assert event.room


def warm_up(folder: str) -> None:
    """Import what the others need, so that their time and their opened files are their own."""
    base = str(Path(folder, "warm"))
    from luthier.model.tiny import save_tiny

    save_tiny(Path(base), "llama")
    load_model(base)
    tuned(base, base)
    data_rows(_written(Path(folder, "warm.jsonl"), '{"prompt": "a", "completion": "b"}\n' * 10))
    recipe(_written(Path(folder, "warm.yaml"), "data: warm.jsonl\n"))


def _written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def load_model(folder: str) -> str:
    """Load a model folder and its tokenizer, as every run does."""
    from luthier.model import load
    from luthier.model.base import resolve_base

    found = resolve_base(folder, _ignore)
    load.load_tokenizer(found.folder)
    return type(load.load_model(found.folder)).__name__


def tuned(base: str, folder: str) -> str:
    """Load an adapter over a base."""
    from luthier.model.adapter import load_tuned

    return type(load_tuned(Path(base), Path(folder))).__name__


def resolve(name: str) -> dict[str, float]:
    """Resolve a base model's name; return or fail after the seconds since a child's libraries were there."""
    from luthier.core.errors import LuthierError
    from luthier.model.base import resolve_base

    times = {"libraries": time.monotonic()}

    def note(event: Event) -> None:
        times[event.message.rpartition(" ")[2]] = time.monotonic()

    try:
        resolve_base(name, note)
    except LuthierError as error:
        raise type(error)(error.what, where=error.where, why=error.why, hint=_since(times["libraries"])) from error
    return times


def _since(moment: float) -> str:
    return f"after {time.monotonic() - moment:.2f} s"


def data_rows(path: str) -> int:
    """Read a data file as a recipe's data, up to its last row."""
    from luthier.data.opened import open_data
    from luthier.data.rows import RowIssue
    from luthier.data.spec import DataSpec

    opened = open_data(DataSpec(path=path))
    rows = list(opened.examples("train"))
    issues = [row for row in rows if isinstance(row, RowIssue)]
    if issues:
        from luthier.data.opened import unreadable

        raise unreadable(issues)
    return len(rows)


def recipe(path: str) -> str:
    """Read a recipe."""
    from luthier.recipe_io.read import load_recipe

    return type(load_recipe(Path(path))).__name__


def newest_checkpoint(folder: str) -> str | None:
    """Find the checkpoint a run would go on from, and restore it."""
    from luthier.train.checkpoint import newest_valid, restore
    from luthier.train.optimizers.optimizer import Optimizer
    from luthier.train.spec import TrainSpec

    path = newest_valid(Path(folder))
    if path is None:
        return None
    import torch

    optimizer = Optimizer({"weight": torch.nn.Parameter(torch.zeros(1))}, TrainSpec(learning_rate=0.1))
    restore(path, weights={}, optimizer=optimizer)
    return path.name


def rendered(source: str, conversation: list[dict[str, Any]] | None = None) -> str:
    """Render a chat template as the service does."""
    from luthier.model.render import Page, Renderer

    renderer = Renderer(1)
    try:
        return renderer(Page(source, conversation or [{"role": "user", "content": "hi"}], None, True, {}))
    finally:
        renderer.close()


def strict(path: str) -> str:
    """Parse one JSON text."""
    from luthier.data.rows import RowError
    from luthier.data.sources.strict_json import parse

    try:
        return json.dumps(parse(Path(path).read_text()))[:100]
    except RowError as error:
        from luthier.core.errors import DataError

        raise DataError(error.reason) from error
