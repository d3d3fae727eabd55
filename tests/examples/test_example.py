"""Examples: what the answer is, and what stands before it."""

import pytest

from luthier.examples.example import Example, Message, Segment


def text(*pieces: tuple[str, bool]) -> Example:
    return Example(segments=tuple(Segment(text=piece, target=target) for piece, target in pieces))


def talk(*weights: int) -> Example:
    turns = []
    for number, weight in enumerate(weights):
        turns += [Message(role="user", content=f"q{number}")]
        turns += [Message(role="assistant", content=f"a{number}", weight=weight)]
    return Example(messages=tuple(turns))


@pytest.mark.parametrize(
    ("example", "answer", "context"),
    [
        (text(("Q: ", False), ("yes", True)), "yes", ["Q: "]),
        (text(("a", False), ("b", True), ("c", False), ("d", True)), "bd", ["a"]),
        (text(("all of it", True)), "all of it", None),
        (text(("nothing trained", False)), "", None),
        (talk(1), "a0", ["q0"]),
        (talk(1, 1), "a1", ["q0", "a0", "q1"]),
        (talk(1, 0), "a0", ["q0"]),
        (talk(0), "", None),
    ],
)
def test_the_answer_and_what_stands_before_it(example: Example, answer: str, context: list[str] | None) -> None:
    before = example.context
    shown = before and [s.text for s in before.segments] + [m.content for m in before.messages]
    assert (example.answer, shown) == (answer, context)
