"""Paths in a recipe count from the recipe's folder, so that it can be run from anywhere."""

import re
from pathlib import Path
from typing import Any

from luthier.core.yaml import Where

PATH_FIELDS: tuple[Where, ...] = (
    ("base_model",),
    ("data", "path"),
    ("data", "validation_path"),
    ("data", "test_path"),
)
FILE_ENDING = re.compile(r"\.(jsonl|json|csv|tsv|parquet|txt|gguf|gz|py|yaml|yml)(\[\d*:\d*\])?$", re.IGNORECASE)


def absolute_paths(value: dict[str, Any], *, folder: Path, from_here: set[Where]) -> dict[str, Any]:
    """Return the recipe with paths made absolute: from `folder`, or from here where `--set` gave them."""
    value = dict(value)
    for path in PATH_FIELDS:
        start = Path.cwd() if path in from_here or path[:1] in from_here else folder
        parent = value
        if len(path) == 2:
            block = value.get(path[0])
            if not isinstance(block, dict):
                continue
            parent = value[path[0]] = dict(block)
        if path[-1] in parent:
            parent[path[-1]] = _absolute(parent[path[-1]], start)
    value = _with_loss_file(_with_adapter_folder(value, folder, from_here), folder, from_here)
    return _with_task_files(_with_metric_files(value, folder, from_here), folder, from_here)


def _with_adapter_folder(value: dict[str, Any], folder: Path, from_here: set[Where]) -> dict[str, Any]:
    """Make the folder of the adapter to go on from absolute."""
    train = value.get("train")
    adapter = train.get("adapter") if isinstance(train, dict) else None
    if not isinstance(adapter, dict) or "start_from" not in adapter:
        return value
    above = {("train",), ("train", "adapter"), ("train", "adapter", "start_from")}
    found = _absolute(adapter["start_from"], Path.cwd() if from_here & above else folder)
    return value | {"train": train | {"adapter": adapter | {"start_from": found}}}


def _with_loss_file(value: dict[str, Any], folder: Path, from_here: set[Where]) -> dict[str, Any]:
    """Make the Python file of the user's own loss absolute."""
    train = value.get("train")
    method = train.get("method") if isinstance(train, dict) else None
    loss = method.get("loss") if isinstance(method, dict) else None
    if not isinstance(loss, dict) or "file" not in loss:
        return value
    path: Where = ("train", "method", "loss", "file")
    is_set = from_here & {path[:length] for length in range(1, len(path) + 1)}
    found = loss | {"file": _absolute(loss["file"], Path.cwd() if is_set else folder)}
    return value | {"train": train | {"method": method | {"loss": found}}}


def _with_task_files(value: dict[str, Any], folder: Path, from_here: set[Where]) -> dict[str, Any]:
    """Make lm-eval's task files absolute; other entries are names, even where a folder is called the same."""
    evaluate = value.get("evaluate")
    tasks = evaluate.get("harness") if isinstance(evaluate, dict) else None
    if not isinstance(tasks, list):
        return value
    start = Path.cwd() if from_here & {("evaluate",), ("evaluate", "harness")} else folder
    found = [_absolute(task, start) if str(task).endswith((".yaml", ".yml")) else task for task in tasks]
    return value | {"evaluate": evaluate | {"harness": found}}


def _with_metric_files(value: dict[str, Any], folder: Path, from_here: set[Where]) -> dict[str, Any]:
    """Make the Python files of the user's metrics absolute: they stand in a list of blocks."""
    evaluate = value.get("evaluate")
    metrics = evaluate.get("user_metrics") if isinstance(evaluate, dict) else None
    if not isinstance(metrics, list):
        return value
    start = Path.cwd() if from_here & {("evaluate",), ("evaluate", "user_metrics")} else folder
    found = [
        metric | {"python": _absolute(metric["python"], start)}
        if isinstance(metric, dict) and "python" in metric
        else metric
        for metric in metrics
    ]
    return value | {"evaluate": evaluate | {"user_metrics": found}}


def _absolute(entry: Any, folder: Path) -> Any:
    if isinstance(entry, list):
        return [_absolute(part, folder) for part in entry]
    if not isinstance(entry, str) or not entry:
        return entry
    try:
        written = folder / Path(entry).expanduser()
        if written.exists() or FILE_ENDING.search(entry) or entry.startswith((".", "~", "/")):
            return str(written.resolve())
    except (OSError, ValueError, RuntimeError):
        # No path: too long, a zero in it, a `~user` who does not exist. Whoever opens it says so.
        pass
    return entry
