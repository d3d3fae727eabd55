"""Files and functions stay small enough to read at once."""

import ast
import re
from collections.abc import Iterator

from tests.laws.source import ROOT, Function, at, functions_of, source_files

FILE_LINES = 500
FUNCTION_LINES = 60
NESTING = 3
BRANCHES = 10
PARAMETERS = 6

BLOCKS = ast.If | ast.For | ast.AsyncFor | ast.While | ast.With | ast.AsyncWith | ast.Try | ast.Match
CHOICES = ast.If | ast.For | ast.AsyncFor | ast.While | ast.ExceptHandler | ast.match_case


def test_files_are_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in source_files()}
    breaches = [
        f"{at(path)} has {lines} lines (at most {FILE_LINES})" for path, lines in lengths.items() if lines > FILE_LINES
    ]
    assert not breaches, "\n".join(breaches)


def measured(measure, limit: int, unit: str) -> list[str]:
    """Return a line for each function of the package that measures more than the limit."""
    breaches = []
    for path in source_files():
        for function in functions_of(path):
            size = measure(function)
            if size > limit:
                breaches.append(f"{at(path, function)} {function.name} has {size} {unit} (at most {limit})")
    return breaches


def test_functions_are_short() -> None:
    breaches = measured(lambda function: function.end_lineno - function.lineno + 1, FUNCTION_LINES, "lines")
    assert not breaches, "\n".join(breaches)


def test_blocks_nest_little() -> None:
    breaches = measured(lambda function: depth(function.body), NESTING, "nested blocks")
    assert not breaches, "\n".join(breaches)


def test_functions_branch_little() -> None:
    breaches = measured(
        lambda function: sum(isinstance(node, CHOICES) for node in own_nodes(function)), BRANCHES, "branches"
    )
    assert not breaches, "\n".join(breaches)


def test_functions_take_few_parameters() -> None:
    breaches = [breach for breach in measured(parameters, PARAMETERS, "parameters") if not excused(breach)]
    assert not breaches, "\n".join(breaches)


def excused(breach: str) -> bool:
    """Say whether the line names its reason: a signature that a library asks for cannot be shorter."""
    file, line = breach.split(" ")[0].rsplit(":", 1)
    return re.search(r"# noqa: PLR0913 \(.+\)", (ROOT / file).read_text().splitlines()[int(line) - 1]) is not None


def parameters(function: Function) -> int:
    """Count the parameters that a caller gives; `self` and `cls` are not among them."""
    named = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
    return len(named) - (named[:1] in (["self"], ["cls"]))


def depth(body: list[ast.stmt]) -> int:
    """Return how many blocks stand inside each other; `elif` does not nest, and a nested function starts anew."""
    return max((1 + inside(node) if isinstance(node, BLOCKS) else 0 for node in body), default=0)


def inside(block: ast.stmt) -> int:
    parts = [getattr(block, name, []) for name in ("body", "orelse", "finalbody")]
    parts += [handler.body for handler in getattr(block, "handlers", [])]
    parts += [case.body for case in getattr(block, "cases", [])]
    return max(depth(part) - is_elif(block, part) for part in parts)


def is_elif(block: ast.stmt, part: list[ast.stmt]) -> bool:
    return isinstance(block, ast.If) and part is block.orelse and len(part) == 1 and isinstance(part[0], ast.If)


def own_nodes(function: Function) -> Iterator[ast.AST]:
    """Yield the nodes of a function, without those of functions defined in it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if not isinstance(node, Function):
            yield node
            waiting += ast.iter_child_nodes(node)


def test_the_measures_count_right() -> None:
    code = """
def f(self, a, *, b):
    for x in a:
        if x:
            pass
        elif b:
            with x:
                pass
    try:
        pass
    except OSError:
        pass
"""
    function = ast.parse(code).body[0]
    assert isinstance(function, ast.FunctionDef)
    assert (parameters(function), depth(function.body)) == (2, 3)
    assert sum(isinstance(node, CHOICES) for node in own_nodes(function)) == 4
