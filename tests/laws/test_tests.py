"""Every test asserts something that can fail, and none is expected to fail."""

import ast
import re
from collections.abc import Iterator

from tests.laws.source import Function, at, dotted, files_of_tests, functions_of, tree_of

CHECKS = re.compile(r"^(?:assert|check|expect|compare|must|same|fails|refuse|watch)")
"""A helper whose name begins so asserts on behalf of the test."""


def asserts(function: Function) -> bool:
    """Say whether a test can fail by its own claim."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert) and not isinstance(node.test, ast.Constant):
            return True
        if isinstance(node, ast.Call):
            last = dotted(node.func).split(".")[-1] or getattr(node.func, "attr", "")
            if last in ("raises", "warns", "fail") or CHECKS.match(last.lstrip("_")):
                return True
    return False


def all_tests() -> Iterator[tuple[str, Function]]:
    for path in files_of_tests():
        yield from (
            (at(path, function), function) for function in functions_of(path) if function.name.startswith("test_")
        )


def test_every_test_asserts() -> None:
    silent = [f"{place} {function.name}" for place, function in all_tests() if not asserts(function)]
    assert not silent, "\n".join(silent)


def test_no_test_is_expected_to_fail_or_skipped_without_a_reason() -> None:
    breaches = []
    for path in files_of_tests():
        for node in ast.walk(tree_of(path)):
            name = dotted(node)
            if name.endswith("mark.xfail") or name == "pytest.xfail":
                breaches.append(f"{at(path, node)} expects a failure")
            if (
                isinstance(node, ast.Call)
                and re.search(r"(?:^|\.)skip(?:if)?$", dotted(node.func))
                and not reasoned(node)
            ):
                breaches.append(f"{at(path, node)} skips without a reason")
    assert not breaches, "\n".join(breaches)


def reasoned(call: ast.Call) -> bool:
    is_plain_skip = dotted(call.func).endswith("skip") and call.args
    return bool(is_plain_skip) or any(keyword.arg == "reason" for keyword in call.keywords)


def test_the_law_sees_a_silent_test() -> None:
    silent, loud = ast.parse("def test_a():\n run()\n assert True"), ast.parse("def test_b():\n assert run()")
    assert not asserts(silent.body[0]) and asserts(loud.body[0])
