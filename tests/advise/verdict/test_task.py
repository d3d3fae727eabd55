"""The kind of task is recognised by what stands in the rows."""

import pytest

from luthier.advise.verdict.task import Asked, recognise

LONG = "The town lies at a river in the north of the country and was founded by monks in the twelfth century. " * 3
ROWS = {
    "translation": [Asked("Good morning to all of you", "Guten Morgen an euch älle"), Asked("translate: a dog", "pes")],
    "summarisation": [
        Asked(LONG, "town at a river in the north"),
        Asked(f"Summarise this. {LONG}", "An old monks' place"),
    ],
    "code": [Asked("Add two numbers", "def add(a, b):\n    return a + b"), Asked("names", "SELECT name FROM people")],
    "chat": [Asked("Hi there", "Hello, how are you today?", turns=6), Asked("Fine", "Good to hear that", turns=4)],
    "generation": [Asked("Write a poem on rain", "It falls and falls"), Asked("Name a fruit", "An apple")],
}


@pytest.mark.parametrize("kind", ROWS)
def test_free_answers_are_told_apart(kind: str) -> None:
    found = recognise("free", ROWS[kind])
    assert found.kind == kind and found.because


def test_few_rows_of_a_kind_do_not_name_the_task() -> None:
    mixed = [ROWS["code"][0], *ROWS["generation"] * 2]
    assert recognise("free", mixed).kind == "generation"


@pytest.mark.parametrize(
    ("answers", "kind"),
    [("closed", "classification"), ("json", "extraction"), ("pair", "preference"), ("text", "text")],
)
def test_other_answers_say_it_themselves(answers: str, kind: str) -> None:
    assert recognise(answers, []).kind == kind
