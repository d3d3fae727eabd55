"""Few-shot prompts: balanced, drawn by the seed, and never longer than the context."""

from collections import Counter
from pathlib import Path

import pytest

from luthier.evaluate.baselines import few_shot, zero_shot
from luthier.evaluate.baselines.setting import Setting
from luthier.evaluate.instruction import Allowed, an_object_like, names_all, one_of, with_answer, with_instruction
from luthier.examples.example import Example, Message, Segment
from luthier.examples.store import Split, write_split
from luthier.model.template import Template
from luthier.model.tiny import tiny_tokenizer

LABELS = ("no", "yes")
WORDING = "Answer with exactly one of these, and with nothing else: no, yes."


def row(number: int) -> Example:
    answer = "yes" if number % 5 == 0 else "no"
    messages = (
        Message(role="system", content="Be brief."),
        Message(role="user", content=f"Is it {number}?"),
        Message(role="assistant", content=answer),
    )
    return Example(messages=messages, row=number)


def block(number: int) -> Example:
    segments = (Segment(text=f"Q {number}\nA ", target=False), Segment(text="yes" if number % 2 else "no", target=True))
    return Example(segments=segments, row=number)


@pytest.fixture
def setting(tmp_path: Path):
    def make(maker=row, **changes) -> Setting:
        template = Template(tiny_tokenizer())
        path = tmp_path / "train.arrow"
        write_split(path, ((template.encode(example), example) for example in map(maker, range(40))))
        values = {"labels": LABELS, "wording": "", "shots": "auto", "request_tokens": 4096, "seed": 3}
        return Setting(template=template, train=Split(path), note=lambda message: None, **(values | changes))

    return make


def test_automatic_shots_are_two_per_label_and_at_least_four(setting) -> None:
    shots = few_shot.choose(setting(), [row(100)])
    assert Counter(shot.answer for shot in shots) == {"yes": 2, "no": 2}
    assert len(few_shot.choose(setting(labels=()), [row(100)])) == 4


def test_shots_are_balanced_however_many(setting) -> None:
    shots = few_shot.choose(setting(shots=9), [row(100)])
    assert sorted(Counter(shot.answer for shot in shots).values()) == [4, 5]
    assert len({shot.row for shot in shots}) == 9


def test_shots_follow_the_seed(setting) -> None:
    drawn = [[shot.row for shot in few_shot.choose(setting(seed=seed), [row(100)])] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_requests_fit_into_the_context(setting) -> None:
    rows = [row(100), row(100_000)]
    limited = setting(shots=30, request_tokens=300)
    asked = few_shot.requests(limited, rows)
    lengths = [len(limited.template.prompt_ids(example)) for example in asked]
    assert 200 < max(lengths) <= 300


def test_shots_are_earlier_turns_under_one_system_message(setting) -> None:
    asked = few_shot.requests(setting(), [row(100)])[0]
    assert [m.role for m in asked.messages] == ["system"] + ["user", "assistant"] * 5
    assert [m.weight for m in asked.messages if m.role == "assistant"] == [0, 0, 0, 0, 1]
    assert asked.messages[-2].content == "Is it 100?"


def test_shots_are_blocks_of_text_where_there_are_no_turns(setting) -> None:
    asked = few_shot.requests(setting(block, wording=WORDING, shots=2), [block(100)])[0]
    text = "".join(segment.text for segment in asked.context.segments)
    assert text.startswith("Answer with exactly one of these, and with nothing else: no, yes.\n\nQ ")
    assert text.endswith("\n\nQ 100\nA ") and text.count("\nA ") == 3


def test_the_instruction_stands_in_every_question(setting) -> None:
    told = setting(wording=WORDING, shots=2)
    one, few = zero_shot.requests(told, [row(100)])[0], few_shot.requests(told, [row(100)])[0]
    assert one.messages[1].content == f"Is it 100?\n\n{WORDING}"
    assert all(m.content.endswith(WORDING) for m in few.messages if m.role == "user")
    assert zero_shot.requests(setting(), [row(100)]) == [row(100)]


def test_which_prompts_name_all_labels() -> None:
    def asking(text: str) -> Example:
        return Example(messages=(Message(role="user", content=text), Message(role="assistant", content="yes")))

    assert names_all(asking("Yes or NO?"), LABELS)
    assert not names_all(asking("Yes or not?"), LABELS)
    assert not names_all(asking("No?"), LABELS)


def test_what_is_allowed_in_words() -> None:
    assert one_of(LABELS) == Allowed(LABELS, WORDING)
    some = an_object_like(['{"city": "Brno", "days": 3}', '{"city": "Oslo", "rain": true}', "no object"])
    said = "Answer with one JSON object and nothing else, with the keys city, days, rain."
    assert some == Allowed(("JSON", "city", "days", "rain"), said)
    many = an_object_like(f'{{"key {number}": 1}}' for number in range(99))
    assert many == Allowed(("JSON",), "Answer with one JSON object and nothing else.")


def test_another_answer_keeps_the_white_space_of_the_old_one() -> None:
    spaced = Example(segments=(Segment(text="A:", target=False), Segment(text=" yes\n", target=True)))
    assert with_answer(spaced, "no").answer == " no\n"
    assert with_answer(row(5), "no") == row(5).model_copy(
        update={"messages": (*row(5).messages[:2], row(1).messages[2])}
    )


def test_an_instruction_without_a_question_goes_to_the_first_message() -> None:
    messages = (Message(role="system", content="Say it."), Message(role="assistant", content="yes"))
    assert with_instruction(Example(messages=messages), WORDING).messages[0].content == f"Say it.\n\n{WORDING}"
