"""Turn what pydantic found into one error a person can act on: line, field, what is allowed, "did you mean"."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rapidfuzz import fuzz, process

from luthier.core.describe import as_text, field_rows, specs_of, tag_of, takes
from luthier.core.errors import RecipeError
from luthier.core.spec import BLOCK_BRANCH, NAME_BRANCH, Spec
from luthier.core.yaml import Document, Where
from luthier.recipe import Recipe

CLOSE = 65
"""Similarity (0 to 100) from which a name counts as a slip of another."""
LONGEST_SHOWN = 60
HIDDEN = ("reasons",)
"""Fields that Luthier writes and nobody sets."""


@dataclass(frozen=True)
class Problem:
    """One wrong place of a recipe."""

    path: Where
    what: str
    why: str | None = None
    hint: str | None = None


def explain(
    error: ValidationError, kind: type[Recipe], *, document: Document, file: Path, set_words: Mapping[Where, str]
) -> RecipeError:
    """Return the first problem of a recipe as an error, with the places of the others."""
    found = list(_problems(error, kind))
    # A wrong part of a list is also reported as a wrong list: the part says more.
    inner = {problem.path[:length] for problem in found for length in range(len(problem.path))}
    problems = [problem for problem in found if problem.path not in inner]
    return located(problems, document=document, file=file, set_words=set_words)


def located(problems: list[Problem], *, document: Document, file: Path, set_words: Mapping[Where, str]) -> RecipeError:
    """Return the problem that stands first in the file as an error with its place."""
    first, *others = sorted(problems, key=lambda problem: document.line_of(problem.path) or 0)
    where: dict[str, object] = {"file": file}
    word = _set_word(first.path, set_words)
    line = document.line_of(first.path)
    if word:
        where = {"--set": word}
    elif line:
        where["line"] = line
    if first.path:
        where["field"] = dotted(first.path)
    if others:
        where["also"] = "; ".join(problem.what for problem in others)
    return RecipeError(first.what, where=where, why=first.why, hint=first.hint)


def dotted(path: Where) -> str:
    """Write a path as in `--set`: `train.betas[1]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _set_word(path: Where, set_words: Mapping[Where, str]) -> str | None:
    for length in range(len(path), 0, -1):
        if path[:length] in set_words:
            return set_words[path[:length]]
    return None


def _problems(error: ValidationError, kind: type[Recipe]) -> Iterator[Problem]:
    """Yield one problem per place: pydantic reports each branch of a choice on its own."""
    seen: set[Where] = set()
    for detail in error.errors(include_url=False):
        path, block = _place(detail["loc"], kind)
        if path in seen:
            continue
        seen.add(path)
        yield _problem(path, block, detail)


def _place(loc: tuple[str | int, ...], kind: type[Spec]) -> tuple[Where, type[Spec]]:
    """Return the path as the recipe writes it and the block it lies in; the names of a choice's branches drop out."""
    path: list[str | int] = []
    blocks: list[type[Spec]] = [kind]
    inside = blocks
    for position, part in enumerate(loc):
        holders = [block for block in inside if part in block.model_fields]
        tagged = [block for block in inside if tag_of(block) == part]
        if holders:
            path.append(part)
            blocks, inside = holders, specs_of(holders[0].model_fields[str(part)].annotation)
        elif tagged:
            inside = tagged
        elif part in (NAME_BRANCH, BLOCK_BRANCH):
            continue
        elif isinstance(part, int):
            path.append(part)
        elif inside and position == len(loc) - 1:
            path.append(part)
            blocks = inside
    return tuple(path), blocks[0]


def _problem(path: Where, block: type[Spec], detail: Any) -> Problem:
    if not path:
        # The JSON between the recipe and its Spec takes only Unicode; a file's name may be any bytes.
        return Problem(path, "a name or text in the recipe is not Unicode", detail["msg"], "rename the file")
    name = str(next((part for part in reversed(path) if isinstance(part, str)), "recipe"))
    if detail["type"] == "extra_forbidden":
        return _unknown_key(path, block)
    field = block.model_fields.get(name)
    allowed = f"it takes {takes(field)}" if field else detail["msg"]
    if detail["type"] == "missing":
        return Problem(path, f"`{dotted(path)}` is missing", allowed, _how_to(path))
    if detail["type"] == "union_tag_invalid":
        return _unknown_choice(path, detail["ctx"])
    if detail["type"] == "value_error":
        return Problem(path, f"`{dotted(path)}` cannot be used", detail["msg"].removeprefix("Value error, "))
    shown = as_text(detail["input"])
    shown = shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}…"
    close = closest(shown, re.findall(r"`([^`]+)`", allowed))
    return Problem(
        path, f"`{dotted(path)}` cannot be `{shown}`", allowed, f"did you mean `{close}`?" if close else None
    )


def _how_to(path: Where) -> str | None:
    return "for example `data: rows.jsonl`" if path[0] == "data" else None


def _unknown_choice(path: Where, context: Mapping[str, Any]) -> Problem:
    names = [name.strip(" '") for name in context["expected_tags"].split(",")]
    close = closest(context["tag"], names)
    why = f"there is {', '.join(f'`{name}`' for name in names)}"
    hint = f"did you mean `{close}`?" if close else None
    return Problem((*path, "name"), f"unknown {path[-1]} `{context['tag']}`", why, hint)


def _unknown_key(path: Where, block: type[Spec]) -> Problem:
    key = str(path[-1])
    names = [name for name in block.model_fields if name not in HIDDEN]
    close = closest(key, names)
    full = dotted((*path[:-1], close)) if close else _elsewhere(key)
    if full and full != dotted(path):
        return Problem(path, f"unknown key `{key}`", hint=f"did you mean `{full}`?")
    place = f"`{dotted(path[:-1])}`" if len(path) > 1 else "a recipe"
    return Problem(path, f"unknown key `{key}`", f"{place} takes {', '.join(f'`{name}`' for name in names)}")


def _elsewhere(key: str) -> str | None:
    """Return the dotted path of a field that is called or nearly called so in another block."""
    paths = {row.path.rsplit(".", 1)[-1]: row.path for row in reversed(list(field_rows(Recipe)))}
    close = closest(key, list(paths))
    return paths[close] if close else None


def closest(word: str, names: list[str]) -> str | None:
    """Return the name that `word` is most likely a slip of or short for (`lr`), if any."""
    # Of names with the same initials the first is meant: the more usual options stand first.
    initials = {"".join(part[0] for part in name.split("_")): name for name in reversed(names) if "_" in name}
    if word in initials:
        return initials[word]
    found = process.extractOne(word.lower(), names, scorer=fuzz.ratio, score_cutoff=CLOSE)
    return found[0] if found else None


def known_path(text: str, override: str) -> Where:
    """Return the path that `--set` names, or say which path was probably meant."""
    path = tuple(text.split("."))
    inside: list[type[Spec]] = [Recipe]
    for position, part in enumerate(path):
        holders = [block for block in inside if part in block.model_fields]
        if not holders:
            raise _unknown_path(path[: position + 1], inside, override)
        inside = [spec for block in holders for spec in specs_of(block.model_fields[part].annotation)]
    return path


def _unknown_path(path: Where, inside: list[type[Spec]], override: str) -> RecipeError:
    if not inside:
        what, why = f"`{dotted(path[:-1])}` has no parts", "it is a single value"
        return RecipeError(what, where={"--set": override}, why=why, hint=f"set `{dotted(path[:-1])}` itself")
    names = {name: None for block in inside for name in block.model_fields}
    problem = _unknown_key(path, inside[0]) if len(inside) == 1 else _unknown_in(path, list(names))
    return RecipeError(problem.what, where={"--set": override}, why=problem.why, hint=problem.hint)


def _unknown_in(path: Where, names: list[str]) -> Problem:
    close = closest(str(path[-1]), names)
    hint = f"did you mean `{dotted((*path[:-1], close))}`?" if close else None
    return Problem(path, f"unknown key `{path[-1]}`", f"it takes {', '.join(names)}", hint)
