from pathlib import Path

import pytest

from luthier.core.errors import DataError
from luthier.examples.example import Example, Message, Segment
from luthier.export.manifest import Manner
from luthier.jobs.chat import Chat
from luthier.jobs.manner import manner_of
from luthier.model.generate import stream
from luthier.model.load import load_model, load_tokenizer
from luthier.model.template import Template
from luthier.model.tiny import save_tiny


def asked(*texts: str, system: str = "") -> Example:
    turns = [Message(role="system", content=system)] if system else []
    for text in texts:
        turns += [Message(role="user", content=text), Message(role="assistant", content="yes")]
    return Example(messages=tuple(turns))


def test_a_shared_instruction_is_put_before_each_message() -> None:
    rows = [asked("Tone of this phrase?\n\ngood day"), asked("Tone of this phrase?\n\ngood grief")]
    assert manner_of(rows) == Manner(instruction="Tone of this phrase?\n\n")


@pytest.mark.parametrize(
    ("rows", "manner"),
    [
        ([asked("good day"), asked("good grief")], Manner()),
        ([asked("a\n\nb")], Manner()),
        ([asked("a", system="Be kind."), asked("b", system="Be kind.")], Manner(system="Be kind.")),
        ([asked("a", system="x"), asked("b", system="y")], Manner()),
        ([asked("Do\n\na", "b"), asked("Do\n\nc")], Manner(many_turns=True)),
        ([Example(segments=(Segment(text="a", target=True),))], Manner(raw=True)),
        ([], Manner()),
    ],
)
def test_the_manner_is_read_from_the_rows(rows: list[Example], manner: Manner) -> None:
    assert manner_of(rows) == manner


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"), "llama")


def chat(folder: Path, manner: Manner) -> Chat:
    model, template = load_model(folder), Template(load_tokenizer(folder))
    return Chat(lambda ids, tokens: stream(model, template, ids, max_new_tokens=tokens), template, manner)


def test_an_answer_is_asked_as_it_was_trained(tiny: Path) -> None:
    manner = Manner(system="Be kind.", instruction="Tone?\n\n")
    talk = chat(tiny, manner)
    row = asked("Tone?\n\ngood day", system="Be kind.")
    assert talk._ids("good day") == talk.template.prompt_ids(row)
    assert isinstance("".join(talk.answer("good day")), str) and talk.turns == []


def test_turns_are_remembered_where_the_rows_had_many(tiny: Path) -> None:
    talk = chat(tiny, Manner(many_turns=True))
    talk.turns += [Message(role="user", content="a"), Message(role="assistant", content="b")]
    before = len(talk._ids("c"))
    list(talk.answer("c"))
    assert len(talk.turns) == 4 and before > len(chat(tiny, Manner())._ids("c"))
    talk.forget()
    assert talk.turns == []


def test_bare_text_is_continued(tiny: Path) -> None:
    talk = chat(tiny, Manner(raw=True))
    assert talk.template.text(talk._ids("once upon")) == "once upon"


@pytest.mark.parametrize(
    ("text_template", "instruction", "closing"),
    [
        ("Review: {text}\nTone: {tone}", "Review: ", "\nTone: "),
        ("{text} {{is}} {tone}.", "", " {is} "),
        ("{title}: {text}\nTone: {tone}", "", ""),
        ("{text}", "", ""),
        (None, "", ""),
    ],
)
def test_bare_text_is_put_into_its_template(
    text_template: str | None, instruction: str, closing: str, tiny: Path
) -> None:
    rows = [Example(segments=(Segment(text="x", target=True),))]
    manner = manner_of(rows, text_template)
    assert manner == Manner(raw=True, instruction=instruction, closing=closing)
    talk = chat(tiny, manner)
    trained = Segment(text=f"{instruction}good day{closing}", target=False), Segment(text="kind", target=True)
    assert talk._ids("good day") == talk.template.prompt_ids(Example(segments=trained))


def test_a_message_longer_than_the_context_is_refused_with_what_helps(tiny: Path) -> None:
    talk = chat(tiny, Manner(many_turns=True))
    with pytest.raises(DataError, match="too long") as caught:
        list(talk.answer("word " * 2000))
    assert "the model's context holds 512" in str(caught.value) and caught.value.hint == "write less"
    talk.turns += [Message(role="user", content="word " * 2000), Message(role="assistant", content="b")]
    with pytest.raises(DataError, match="too long") as caught:
        list(talk.answer("hi"))
    assert "/new" in str(caught.value) and len(talk.turns) == 2


def test_an_answer_never_leaves_the_context(tiny: Path) -> None:
    talk = chat(tiny, Manner())
    talk.template.stop_ids = frozenset()
    words = next(f"{'a ' * n}" for n in range(200, 600) if len(talk._ids("a " * n)) == 505)
    assert 0 < len(list(talk.answer(words))) <= 512 - 505
