"""The formula of a multi grader: numbers, names, a few operators and functions, and nothing else."""

import ast
import math
import operator
from collections.abc import Callable, Mapping

from luthier.score.graders.graded import GradingError

NODES = 300
DEPTH = 40
_OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}
_SEVERAL = ("min", "max")
Worth = Callable[[Mapping[str, float]], float]


def formula_of(text: str, names: set[str]) -> Worth:
    """Return the formula as a function of the graders' rewards; raises GradingError (`formula_parse_error`)."""
    try:
        # In Python, ^ means something else; as ** it binds as people write it.
        tree = ast.parse(text.strip().replace("^", "**"), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _unreadable(f"cannot be read: {error}") from error
    if sum(1 for _ in ast.walk(tree)) > NODES:
        raise _unreadable("is too long")
    worth = _parsed(tree, names, DEPTH)

    def reckon(rewards: Mapping[str, float]) -> float:
        try:
            value = float(worth(rewards))
        except (ArithmeticError, ValueError) as error:
            raise GradingError("other_error", f"calculate_output has no value: {error}") from error
        if not math.isfinite(value):
            raise GradingError("other_error", f"calculate_output is {value}")
        return value

    return reckon


def _unreadable(why: str) -> GradingError:
    return GradingError("formula_parse_error", f"calculate_output {why}")


def _parsed(node: ast.expr, names: set[str], depth: int) -> Worth:
    if depth == 0:
        raise _unreadable("is nested too deep")
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool) and abs(value) < 1e300:
            number = float(value)
            return lambda rewards: number
        case ast.Name(id=name) if name in names:
            return lambda rewards: rewards[name]
        case ast.Name(id=name):
            raise _unreadable(f"names {name!r}, and there is no such grader")
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _OPERATORS:
            return _called(_OPERATORS[type(op)], [left, right], names, depth)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _called(_OPERATORS[type(op)], [operand], names, depth)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if _fits(name, len(args)):
            return _called(_FUNCTIONS[name], args, names, depth)
    raise _unreadable(f"holds something that is no arithmetic: {ast.unparse(node)[:60]}")


def _fits(function: str, arguments: int) -> bool:
    return function in _FUNCTIONS and (arguments > 1 if function in _SEVERAL else arguments == 1)


def _called(function: Callable[..., float], parts: list[ast.expr], names: set[str], depth: int) -> Worth:
    worths = [_parsed(part, names, depth - 1) for part in parts]
    return lambda rewards: function(*(worth(rewards) for worth in worths))
