"""The questions of rows without what all of them say: what tells one from another."""

import os
from collections.abc import Sequence

from luthier.examples.example import Example


def own_words(examples: Sequence[Example]) -> list[str]:
    """Return each row's last question, without the beginning and the end that all of them share."""
    texts = [question(example) for example in examples]
    if len(set(texts)) < 2:
        return texts
    start = _whole_words(os.path.commonprefix(texts))
    end = _whole_words(os.path.commonprefix([text[start:][::-1] for text in texts]))
    cut = [text[start : len(text) - end].strip() for text in texts]
    return [short or text for short, text in zip(cut, texts, strict=True)]


def _whole_words(shared: str) -> int:
    """Return how much of a shared beginning ends with a word."""
    return len(shared.rstrip()) if shared != shared.rstrip() else max(shared.rfind(" "), shared.rfind("\n"), -1) + 1


def question(example: Example) -> str:
    """Return the last question of a row, without instructions to the system."""
    context = example.context or example
    if context.segments:
        return "".join(segment.text for segment in context.segments if not segment.target) or example.answer
    asked = [message.content for message in context.messages if message.role == "user"]
    return asked[-1] if asked else "\n".join(message.content for message in context.messages)
