"""Every row of the table of peers' vulnerabilities has its test, named after it."""

import re

from tests.laws.source import files_of_tests, functions_of
from tests.zoo.rows import ROWS, Row

ZOO = [path for path in files_of_tests() if path.parent.name == "zoo"]
NAMES = sorted(function.name for path in ZOO for function in functions_of(path) if function.name.startswith("test_"))


def named_after(row: Row) -> list[str]:
    return [name for name in NAMES if all(word in name for word in row.words)]


def test_every_row_has_a_test_that_names_all_its_numbers() -> None:
    missing = [f"{row.product}: {', '.join(row.ids)}" for row in ROWS if not named_after(row)]
    assert not missing, "\n".join(missing)


def test_no_test_names_a_number_that_no_row_has() -> None:
    known = {word for row in ROWS for word in row.words}
    named = {number for name in NAMES for number in re.findall(r"20\d\d_\d{3,6}(?:xx)?", name)}
    assert named <= known, sorted(named - known)


def test_the_table_is_whole() -> None:
    ids = [name for row in ROWS for name in row.ids]
    assert len(ids) == len(set(ids)) and len(ids) >= 60 and len(ROWS) >= 29
    assert all(row.happened and row.shown and row.product for row in ROWS)


def test_the_law_sees_a_row_without_a_test() -> None:
    assert not named_after(Row("Nobody", ("1999-0001",), "nothing", "nothing"))
