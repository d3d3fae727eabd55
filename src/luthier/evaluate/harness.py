"""Tasks of EleutherAI's lm-eval, by the names that it knows or as task files, put to a model by its own library.

The library is an extra, imported only where tasks are asked for.
"""

import contextlib
import difflib
import functools
import importlib.util
import io
import logging
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from luthier.core.errors import LuthierError, RecipeError
from luthier.core.files import sha256_of

if TYPE_CHECKING:
    from lm_eval.api.group import Group
    from lm_eval.api.model import LM
    from lm_eval.api.task import Task
    from lm_eval.tasks import TaskManager

PACKAGE = "lm_eval"
FIELD = "evaluate.harness"
ENDINGS = (".yaml", ".yml")
NEAREST = 5
"""Known names that an unknown one is answered with at most."""


@dataclass
class Tasks:
    """Loaded tasks and the rows that are asked of each."""

    seed: int
    tasks: dict[str, "Task"] = field(default_factory=dict)
    """The tasks themselves; a group's are among them."""
    groups: dict[str, "Group"] = field(default_factory=dict)
    rows: dict[str, list[int]] = field(default_factory=dict)
    """Places of the rows that are asked, by task."""


def is_task_file(name: str) -> bool:
    """Tell a task file from a name that the library knows."""
    return name.endswith(ENDINGS)


def check_harness(names: Sequence[str], *, where: str = FIELD) -> None:
    """Load the tasks and put a row of each to a model that says anything: what is wrong shows before any long work."""
    if not names:
        return
    tasks = load_tasks(names, rows=1, seed=0, where=where)
    from lm_eval.models.dummy import DummyLM

    found = asked(tasks, DummyLM(), resamples=0, where=where)
    for name in tasks.tasks:
        if not any("," in key for key in found["results"][name]):
            why = "none of its metrics is known, or none suits its kind of answers"
            raise RecipeError(f"the task `{name}` measures nothing", where={"field": where}, why=why)


def asked(tasks: Tasks, model: "LM", *, resamples: int, where: str = FIELD) -> dict[str, Any]:
    """Return what the library reports of the tasks' rows; whatever fails in a task's own code is one error."""
    from lm_eval.evaluator import evaluate

    with quiet(tasks.seed):
        for task in tasks.tasks.values():
            if task.get_config("num_fewshot") is None:
                task.set_config(key="num_fewshot", value=0)
            # Every model sees the same examples.
            task.set_fewshot_seed(seed=tasks.seed)
        loaded: Any = {"tasks": tasks.tasks, "groups": tasks.groups}
        try:
            found = evaluate(model, task_dict=loaded, samples=tasks.rows, bootstrap_iters=resamples)
        except Exception as error:  # tasks bring Python of their own, and the library raises no type of its own
            at = {"field": where, "tasks": ", ".join(tasks.tasks)}
            raise RecipeError("lm-eval failed", where=at, why=f"{type(error).__name__}: {error}") from error
    return dict(found or {})


def check_package(where: str = FIELD) -> None:
    """Refuse where the library is not installed."""
    if importlib.util.find_spec(PACKAGE) is None:
        why, hint = "the package lm-eval is missing", "pip install 'luthier[lm-eval]'"
        raise RecipeError("tasks of lm-eval cannot be run", where={"field": where}, why=why, hint=hint)


def harness_sources(names: Sequence[str]) -> list[str]:
    """Return hashes of what task files are made of: themselves, the Python beside them, and their local data."""
    if names:
        check_package()
    files: dict[Path, None] = {}
    for path in (Path(name) for name in names if is_task_file(name)):
        if path.is_file():
            beside = (other for other in path.parent.iterdir() if other.suffix in (".py", *ENDINGS))
            files |= dict.fromkeys(sorted(beside)) | dict.fromkeys(_data_files(_read(path, functions=False)))
    return [sha256_of(path) for path in files]


def load_tasks(names: Sequence[str], *, rows: int, seed: int, where: str = FIELD) -> Tasks:
    """Load tasks with their data, and draw the rows to ask, at most so many of each task.

    A missing package, an unknown name, data that cannot be fetched, and tasks that would run what a model writes are
    errors.
    """
    check_package(where)
    found = Tasks(seed)
    with quiet(seed):
        for name in dict.fromkeys(names):
            try:
                _load(name, found, where)
            except LuthierError:
                raise
            except (ConnectionError, TimeoutError) as error:
                hint = "fetch it once with a network, or write a task file whose data lies on this disk"
                what = f"the data of the task `{name}` is not on this disk"
                raise RecipeError(what, where={"field": where}, why=_first_line(error), hint=hint) from error
            except Exception as error:  # task files name Python of their own, and the library raises no type of its own
                why = f"{type(error).__name__}: {_first_line(error)}"
                raise RecipeError(f"the task `{name}` cannot be loaded", where={"field": where}, why=why) from error
        draw = np.random.default_rng(seed)
        for name, task in found.tasks.items():
            found.rows[name] = sorted(draw.permutation(len(task.eval_docs))[:rows].tolist())
    return found


@contextlib.contextmanager
def quiet(seed: int) -> Iterator[None]:
    """Let the library work unheard, from a fixed seed, and in this process.

    It writes bars and notes to both streams, where our own output belongs, draws from the global generators, and would
    resample in forked processes, which a process with torch's threads should not.
    """
    log, many = logging.getLogger(PACKAGE), "DISABLE_MULTIPROC"
    level, before = log.level, os.environ.get(many)
    drawn, drawn_by_numpy = random.getstate(), np.random.get_state()
    log.setLevel(logging.CRITICAL)
    os.environ[many] = "1"
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        log.setLevel(level)
        random.setstate(drawn)
        np.random.set_state(drawn_by_numpy)
        if before is None:
            del os.environ[many]
        else:
            os.environ[many] = before


def _load(name: str, found: Tasks, where: str) -> None:
    spec: str | dict[str, Any] = name
    if is_task_file(name):
        if not Path(name).is_file():
            raise RecipeError("there is no such task file", where={"field": where, "file": name})
        spec, known = _spec_of(Path(name))
        manager = _manager(known)
    else:
        manager = _manager(True)
        if name not in manager.task_index:
            close = difflib.get_close_matches(name, manager.all_tasks, n=NEAREST)
            hint = f"the nearest: {', '.join(close)}" if close else "a task file of your own ends in .yaml"
            raise RecipeError(f"lm-eval knows no task `{name}`", where={"field": where}, hint=hint)
    loaded = manager.load([spec])
    found.tasks |= loaded["tasks"]
    found.groups |= loaded.get("groups", {})
    for task_name, task in loaded["tasks"].items():
        _check(task_name, task, where)


def _check(name: str, task: "Task", where: str) -> None:
    if getattr(task, "UNSAFE_CODE", False):
        why = "it runs the code that a model writes"
        raise RecipeError(f"the task `{name}` is refused", where={"field": where}, why=why)
    if getattr(task, "MULTIMODAL", False):
        raise RecipeError(f"the task `{name}` needs a model that sees or hears", where={"field": where})
    if not len(task.eval_docs):
        raise RecipeError(f"the task `{name}` has no rows", where={"field": where})


def _spec_of(path: Path) -> tuple[str | dict[str, Any], bool]:
    """Return a task file as the library takes it, and whether it may refer to built-in tasks."""
    config = _read(path, functions=True)
    if not isinstance(config.get("task"), str) or "group" in config:
        return str(path), True
    return config, False


def _beside(files: Any, folder: Path) -> Any:
    """Return names of data files, each made absolute where it lies in the folder."""
    if isinstance(files, Mapping):
        return {split: _beside(names, folder) for split, names in files.items()}
    if isinstance(files, list):
        return [_beside(name, folder) for name in files]
    return str((folder / files).resolve()) if (folder / str(files)).is_file() else files


def _data_files(config: Mapping[str, Any]) -> list[Path]:
    """Return the local data files that a task file names."""
    named, found = [(config.get("dataset_kwargs") or {}).get("data_files")], []
    while named:
        one = named.pop()
        if isinstance(one, Mapping):
            named += one.values()
        elif isinstance(one, list):
            named += one
        elif isinstance(one, str) and Path(one).is_file():
            found.append(Path(one))
    return sorted(found)


def _read(path: Path, *, functions: bool) -> dict[str, Any]:
    """Return what a task file says, with what it includes; `!function` imports Python from beside it."""
    from lm_eval.tasks.manager import load_yaml

    try:
        config: dict[str, Any] = load_yaml(path, resolve_func=functions)
    except Exception as error:  # a task file names Python of its own, and the library raises no type of its own
        why = f"{type(error).__name__}: {_first_line(error)}"
        raise RecipeError("this task file cannot be read", where={"file": path}, why=why) from error
    # Data lies beside the task file, wherever the command was started.
    options = config.get("dataset_kwargs") or {}
    if "data_files" in options:
        config["dataset_kwargs"] = options | {"data_files": _beside(options["data_files"], path.parent)}
    return config


@functools.cache
def _manager(built_in: bool) -> "TaskManager":
    """Return the library's index of tasks; reading the 15,000 that it brings takes tens of seconds."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_defaults=built_in)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:300]
