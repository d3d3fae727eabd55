"""Instruction: questions changed so that a model knows which answers are allowed, or is given another answer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from luthier.examples.example import Example, Segment
from luthier.score.closed import whole_words
from luthier.score.structured import parse_object

BLANK_LINE = "\n\n"
"""Ends a question, an answer or an instruction in text without turns."""
MOST_KEYS = 30
"""Keys of an object that an instruction names at most; with more it names none."""


def up_to_answer(example: Example) -> Example:
    """Return a conversation without what follows its last trained answer; text as it is."""
    last = max((i for i, m in enumerate(example.messages) if m.role == "assistant" and m.weight), default=-1)
    return example if last < 0 else example.model_copy(update={"messages": example.messages[: last + 1]})


@dataclass(frozen=True)
class Allowed:
    """What a fair question names about its answer."""

    names: tuple[str, ...]
    """Words that a prompt which says it all contains."""
    wording: str
    """Says it where a prompt does not."""


def one_of(labels: Sequence[str]) -> Allowed:
    """Allow one of the labels."""
    wording = f"Answer with exactly one of these, and with nothing else: {', '.join(labels)}."
    return Allowed(tuple(labels), wording)


def an_object_like(answers: Iterable[str]) -> Allowed:
    """Allow one JSON object with the keys of these answers."""
    objects = (parse_object(answer) or {} for answer in answers)
    keys = tuple(dict.fromkeys(key for value in objects for key in value))
    keys = keys if len(keys) <= MOST_KEYS else ()
    named = f", with the keys {', '.join(keys)}" if keys else ""
    return Allowed(("JSON", *keys), f"Answer with one JSON object and nothing else{named}.")


def names_all(example: Example, names: Sequence[str]) -> bool:
    """Tell whether the prompt names all of these, as whole words and whatever the case."""
    context = example.context
    if context is None:
        return False
    text = "\n".join([m.content for m in context.messages] + [s.text for s in context.segments]).casefold()
    return all(whole_words([name.casefold()]).search(text) for name in names)


def with_instruction(example: Example, wording: str) -> Example:
    """Put the wording at the end of the last question, or before the text where there are no turns."""
    if example.segments:
        first = Segment(text=wording + BLANK_LINE, target=False)
        return example.model_copy(update={"segments": (first, *example.segments)})
    messages = list(up_to_answer(example).messages)
    asked = max((i for i, m in enumerate(messages) if m.role == "user"), default=0)
    content = f"{messages[asked].content}{BLANK_LINE}{wording}"
    messages[asked] = messages[asked].model_copy(update={"content": content})
    return example.model_copy(update={"messages": tuple(messages)})


def with_answer(example: Example, answer: str) -> Example:
    """Return the example with another last answer; white space around the old one stays."""
    old = example.answer
    start = len(old) - len(old.lstrip())
    worded = old[:start] + answer + old[len(old.rstrip()) :] if old.strip() else answer
    if example.segments:
        before = example.context.segments if example.context else ()
        return example.model_copy(update={"segments": (*before, Segment(text=worded, target=True))})
    messages = up_to_answer(example).messages
    changed = (*messages[:-1], messages[-1].model_copy(update={"content": worded}))
    return example.model_copy(update={"messages": changed})
