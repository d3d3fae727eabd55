"""Instruction: questions changed so that a model knows which answers are allowed, or is given another answer."""

import re
from collections.abc import Sequence

from luthier.examples.example import Example, Segment

BLANK_LINE = "\n\n"
"""Ends a question, an answer or an instruction in text without turns."""


def up_to_answer(example: Example) -> Example:
    """Return a conversation without what follows its last trained answer; text as it is."""
    last = max((i for i, m in enumerate(example.messages) if m.role == "assistant" and m.weight), default=-1)
    return example if last < 0 else example.model_copy(update={"messages": example.messages[: last + 1]})


def names_all(example: Example, labels: Sequence[str]) -> bool:
    """Tell whether the prompt names every label, as whole words and whatever the case."""
    context = example.context
    if context is None:
        return False
    text = "\n".join([m.content for m in context.messages] + [s.text for s in context.segments]).casefold()
    return all(re.search(rf"(?<!\w){re.escape(label.casefold())}(?!\w)", text) for label in labels)


def with_instruction(example: Example, labels: Sequence[str]) -> Example:
    """Name the allowed answers: at the end of the last question, or before the text where there are no turns."""
    wording = f"Answer with exactly one of these, and with nothing else: {', '.join(labels)}."
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
