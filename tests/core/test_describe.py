from typing import Annotated, Literal

import pytest
from pydantic import Field

from luthier.core.describe import as_text, field_rows, specs_of, tag_of, takes
from luthier.core.spec import Auto, Spec


class Inner(Spec):
    """A block."""

    name: Literal["inner"] = "inner"
    """Its name."""
    share: float = Field(0.5, ge=0, lt=1)
    """A share."""


class Other(Spec):
    """Another block."""

    name: Literal["other"] = "other"
    """Its name."""


class Outer(Spec):
    """What is described."""

    must: int
    """A number."""
    rate: Auto | Annotated[float, Field(gt=0)] = "auto"
    """A rate."""
    many: tuple[str, ...] = ()
    """Names."""
    two: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (1, 2)
    """Two."""
    flag: Auto | bool = True
    """A switch."""
    inner: Inner | Other = Inner()
    """A choice."""
    maybe: Inner | None = None
    """Or nothing."""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("must", "a whole number"),
        ("rate", "`auto` or a number above 0"),
        ("many", "a list of texts"),
        ("two", "a list of 2 values, each a whole number from 1"),
        ("flag", "`auto`, `true` or `false`"),
        ("maybe", "a block of `name`, `share` or `null`"),
    ],
)
def test_fields_in_words(name: str, words: str) -> None:
    assert takes(Outer.model_fields[name]) == words


def test_rows_reach_into_blocks() -> None:
    rows = {row.path: row for row in field_rows(Outer)}
    assert rows["must"].default == "(needed)"
    assert rows["inner"].takes == "inner or other" and rows["inner"].default == "inner"
    assert rows["inner.share"].takes == "a number from 0 and below 1" and rows["inner.share"].meaning == "A share."


def test_specs_and_tags() -> None:
    assert specs_of(Outer.model_fields["inner"].annotation) == [Inner, Other]
    assert (tag_of(Inner), tag_of(Outer)) == ("inner", None)


def test_values_as_a_recipe_writes_them() -> None:
    written = [as_text(value) for value in (True, None, 1e-4, (1, "a"), Inner(), 3)]
    assert written == ["true", "null", "0.0001", "[1, a]", "inner", "3"]
