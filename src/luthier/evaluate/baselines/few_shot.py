"""Few-shot: questions of the training split with their answers come before the question (Brown et al. 2020)."""

import math
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest

import numpy as np

from luthier.evaluate.baselines.setting import Setting
from luthier.evaluate.instruction import BLANK_LINE, up_to_answer
from luthier.examples.example import Example, Segment

FEWEST = 4
PER_LABEL = 2
FRAMES = ("system", "developer")


def requests(setting: Setting, rows: Sequence[Example]) -> list[Example]:
    """Return each test row as it is asked, with the same examples before each."""
    shots = choose(setting, rows)
    fewer = "" if len(shots) == wanted(setting) else f" ({wanted(setting)} were wanted; no more fit or exist)"
    setting.note(f"few-shot: {len(shots)} examples of the training split before each question{fewer}")
    if rows and rows[0].segments:
        return [setting.told(with_shots(row, shots)) for row in rows]
    told = [setting.told(shot) for shot in shots]
    return [with_shots(setting.told(row), told) for row in rows]


def wanted(setting: Setting) -> int:
    """Return how many examples there should be: as many as set, else two per label and at least four."""
    return max(FEWEST, PER_LABEL * len(setting.labels)) if setting.shots == "auto" else setting.shots


def choose(setting: Setting, rows: Sequence[Example]) -> list[Example]:
    """Draw examples by the seed, balanced over labels, as many as fit before the longest question."""
    longest = max(rows, key=lambda row: len(setting.template.prompt_ids(row)))
    alone = len(setting.template.prompt_ids(setting.told(longest)))
    left = setting.request_tokens - alone
    shots: list[Example] = []
    for shot in _drawn(setting, wanted(setting)):
        pair = with_shots(setting.told(longest), [setting.told(shot)])
        cost = len(setting.template.prompt_ids(pair)) - alone
        if cost <= left:
            shots.append(shot)
            left -= cost
    order = np.random.default_rng(setting.seed).permutation(len(shots))
    return [shots[place] for place in order]


def with_shots(row: Example, shots: Sequence[Example]) -> Example:
    """Put answered examples before a question: as earlier turns, or as blocks of text."""
    if row.segments:
        blocks = [Segment(text=_whole_text(shot) + BLANK_LINE, target=False) for shot in shots]
        return row.model_copy(update={"segments": (*blocks, *row.segments)})
    framed = next((i for i, m in enumerate(row.messages) if m.role not in FRAMES), len(row.messages))
    turns = [m for shot in shots for m in up_to_answer(shot).messages if m.role not in FRAMES]
    earlier = [m.model_copy(update={"weight": 0}) if m.role == "assistant" else m for m in turns]
    return row.model_copy(update={"messages": (*row.messages[:framed], *earlier, *row.messages[framed:])})


def _whole_text(example: Example) -> str:
    return "".join(segment.text for segment in example.segments).rstrip()


def _drawn(setting: Setting, count: int) -> list[Example]:
    """Draw answered questions in an order that takes one of each label in turn."""
    order = np.random.default_rng(setting.seed).permutation(len(setting.train)).tolist()
    examples = (example for row in order if (example := setting.train.example(row)).context and example.answer.strip())
    if not setting.labels:
        return [example for _, example in zip(range(count), examples, strict=False)]
    by_label = _by_label(examples, setting.labels, math.ceil(count / len(setting.labels)))
    in_turn = chain.from_iterable(zip_longest(*by_label))
    return [example for example in in_turn if example is not None][:count]


def _by_label(examples: Iterator[Example], labels: Sequence[str], each: int) -> list[list[Example]]:
    found: dict[str, list[Example]] = {label: [] for label in labels}
    for example in examples:
        ours = found.get(example.answer.strip(), [])
        if len(ours) < each:
            ours.append(example)
        if all(len(of_label) >= each for of_label in found.values()):
            break
    return list(found.values())
