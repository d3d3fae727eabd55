from pathlib import Path

from luthier.core import errors
from luthier.core.errors import LuthierError, ModelError

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


def kinds() -> list[type[LuthierError]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LuthierError)]


def test_an_error_says_what_where_why_and_what_to_do() -> None:
    error = LuthierError("it broke", where={"file": "a", "line": 3}, why="it was thin", hint="take another")
    assert str(error) == "error: it broke\n  file    a\n  line    3\n  why     it was thin\nhint: take another"
    assert str(LuthierError("it broke")) == "error: it broke"
    assert ModelError("it broke").hint == ModelError.usual_hint and ModelError("it broke", hint="x").hint == "x"


def test_every_kind_has_its_status_and_stands_in_the_documents() -> None:
    assert len({kind.exit_status for kind in kinds()}) == len({kind.code for kind in kinds()}) == len(kinds())
    page = PAGE.read_text(encoding="utf-8")
    assert not [kind for kind in kinds() if f"| {kind.exit_status} | `{kind.code}` |" not in page]
