"""The kind of answers, from the answers themselves."""

import json

import pytest

from luthier.data.answers import Answers
from luthier.data.formats.shape import question_answer
from luthier.examples.example import Example, Segment


def counted(examples: list[Example]) -> Answers:
    answers = Answers()
    for example in examples:
        answers.add(example)
    return answers


@pytest.mark.parametrize(
    ("said", "kind", "labels"),
    [
        (["yes", "no"] * 10, "closed", ("yes", "no")),
        (["yes"] * 10, "free", ()),
        ([f"answer {number}" for number in range(20)], "free", ()),
        (["yes", "no"] * 10 + ["a" * 100], "free", ()),
        ([str(number % 51) for number in range(200)], "free", ()),
        ([str(number % 50) for number in range(200)], "closed", tuple(map(str, range(50)))),
        ([json.dumps({"a": number}) for number in range(9)], "json", ()),
        ([f'{{"a": {number}, "b": NaN}}' for number in range(9)], "free", ()),
        (['{"a": 1}', "{broken"] * 5, "closed", ('{"a": 1}', "{broken")),
    ],
)
def test_kind_of_answers_to_prompts(said: list[str], kind: str, labels: tuple[str, ...]) -> None:
    answers = counted([question_answer("Q", answer) for answer in said])
    assert (answers.kind, answers.labels) == (kind, labels)


def test_named_labels_are_closed_however_many() -> None:
    answers = counted([question_answer("Q", str(number), label=str(number)) for number in range(80)])
    assert answers.kind == "closed"
    assert len(answers.labels) == 80


def test_text_without_a_prompt_is_text() -> None:
    assert counted([Example(segments=(Segment(text="Once", target=True),))] * 3).kind == "text"
