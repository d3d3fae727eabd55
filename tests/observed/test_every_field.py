"""The law of the tables beside this file: each field of each Spec has another value there, and is observed with it."""

from collections.abc import Iterator

import pytest
from tests.laws.source import all_specs
from tests.observed import (
    test_adapters,
    test_data,
    test_evaluation,
    test_export,
    test_methods,
    test_prices,
    test_recipe,
    test_search,
    test_service,
    test_serving,
    test_training,
)
from tests.observed.seen import fields_of

from luthier.core.describe import specs_of
from luthier.core.spec import Spec
from luthier.jobs.service.settings import ServiceSettings
from luthier.recipe import Plan, Recipe

MODULES = (
    test_adapters,
    test_data,
    test_evaluation,
    test_export,
    test_methods,
    test_prices,
    test_recipe,
    test_search,
    test_service,
    test_serving,
    test_training,
)
TABLE = {spec: changes for module in MODULES for spec, changes in module.CASES.items()}
REQUESTS = "luthier.score.graders.spec"
"""Graders come with requests, word for word as another service defines them; tests/score/graders holds them."""


def held_by(spec: type[Spec]) -> Iterator[type[Spec]]:
    """Yield a Spec, and all that may stand in its fields."""
    yield spec
    for field in spec.model_fields.values():
        for below in specs_of(field.annotation):
            yield from held_by(below)


BASES = {base for spec in all_specs() for base in spec.__mro__[1:]} | {Plan}
SPECS = [spec for spec in all_specs() if spec not in BASES and spec.__module__ != REQUESTS]


@pytest.mark.parametrize("spec", [*SPECS, Recipe], ids=lambda spec: spec.__name__)
def test_each_field_has_another_value_with_which_it_is_observed(spec: type[Spec]) -> None:
    assert set(TABLE.get(spec, {})) == set(fields_of(spec)), f"add them to CASES beside the tests of {spec.__name__}"


def test_the_tables_hold_all_that_a_recipe_or_a_service_can_hold() -> None:
    held = {*held_by(Recipe), *held_by(ServiceSettings)}
    assert held <= set(TABLE) <= {*SPECS, Recipe}
