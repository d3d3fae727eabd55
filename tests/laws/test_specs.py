"""Everything a person can ask for is documented, frozen, and read by something."""

import ast
import inspect

import pytest
from tests.laws.source import SOURCE, all_specs, source_files, tree_of
from tools.make_reference import reference

from luthier.core.spec import Spec

SPECS = all_specs()
REFERENCE = SOURCE.parents[1] / "docs" / "reference.md"


def own_fields(spec: type[Spec]) -> list[str]:
    """Return the fields that this class itself declares."""
    return [name for name in spec.model_fields if name in spec.__annotations__]


def names_read_outside(file: str) -> set[str]:
    """Return all attribute names that the package reads, except in one file."""
    nodes = (node for path in source_files() if str(path) != file for node in ast.walk(tree_of(path)))
    return {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}


def test_specs_are_found() -> None:
    assert {"Recipe", "DataSpec", "TrainSpec", "LoraSpec", "EvaluateSpec"} <= {spec.__name__ for spec in SPECS}


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.__name__)
def test_spec_is_documented(spec: type[Spec]) -> None:
    assert spec.__doc__ and spec.__doc__.strip().endswith("."), f"{spec.__module__}.{spec.__name__} has no sentence"
    silent = [
        name for name, field in spec.model_fields.items() if not (field.description or "").strip().endswith((".", ")"))
    ]
    assert not silent, f"{spec.__module__}.{spec.__name__}: no sentence under {', '.join(silent)}"


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.__name__)
def test_spec_is_frozen_and_refuses_unknown_keys(spec: type[Spec]) -> None:
    assert spec.model_config.get("frozen") is True
    assert spec.model_config.get("extra") == "forbid"


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.__name__)
def test_each_option_is_read(spec: type[Spec]) -> None:
    file = inspect.getfile(spec)
    unread = sorted(set(own_fields(spec)) - names_read_outside(file))
    assert not unread, f"{file}: {spec.__name__} has options that nothing reads: {', '.join(unread)}"


def test_reference_is_drawn_from_the_specs() -> None:
    assert REFERENCE.read_text(encoding="utf-8") == reference(), "docs/reference.md is old: run `make docs`"
