"""Retrieval: before each question stand the passages of the user's documents nearest to it (Lewis et al. 2020)."""

from collections.abc import Sequence

from luthier.evaluate.baselines.setting import Setting
from luthier.evaluate.instruction import BLANK_LINE
from luthier.examples.example import Example, Segment

HEAD = "Use these passages where they help:"


def requests(setting: Setting, rows: Sequence[Example], near: Sequence[Sequence[str]]) -> list[Example]:
    """Return each test row as it is asked; `near` holds its passages, the nearest first."""
    return [_asked(setting, row, passages) for row, passages in zip(rows, near, strict=True)]


def _asked(setting: Setting, row: Example, passages: Sequence[str]) -> Example:
    told, left = setting.told(row), list(passages)
    while left:
        asked = with_passages(told, left)
        if len(setting.template.prompt_ids(asked)) <= setting.request_tokens:
            return asked
        left.pop()
    return told


def with_passages(example: Example, passages: Sequence[str]) -> Example:
    """Put passages before the last question, or before the text where there are no turns."""
    text = BLANK_LINE.join([HEAD, *passages]) + BLANK_LINE
    if example.segments:
        return example.model_copy(update={"segments": (Segment(text=text, target=False), *example.segments)})
    messages = list(example.messages)
    asked = max((i for i, message in enumerate(messages) if message.role == "user"), default=0)
    messages[asked] = messages[asked].model_copy(update={"content": text + messages[asked].content})
    return example.model_copy(update={"messages": tuple(messages)})
