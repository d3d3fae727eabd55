"""Near-shot: before each question come the training questions nearest to it, with their answers (Liu et al. 2022)."""

from collections.abc import Sequence

from luthier.evaluate.baselines.few_shot import with_shots
from luthier.evaluate.baselines.setting import Setting
from luthier.examples.example import Example


def requests(setting: Setting, rows: Sequence[Example], near: Sequence[Sequence[Example]]) -> list[Example]:
    """Return each test row as it is asked; `near` holds its training rows, the nearest first."""
    return [_asked(setting, row, list(shots)) for row, shots in zip(rows, near, strict=True)]


def _asked(setting: Setting, row: Example, shots: list[Example]) -> Example:
    """Put as many near rows before the question as fit, the nearest right before it."""
    while shots:
        asked = _with(setting, row, shots)
        if len(setting.template.prompt_ids(asked)) <= setting.request_tokens:
            return asked
        shots.pop()
    return setting.told(row)


def _with(setting: Setting, row: Example, shots: Sequence[Example]) -> Example:
    nearest_last = list(reversed(shots))
    if row.segments:
        return setting.told(with_shots(row, nearest_last))
    return with_shots(setting.told(row), [setting.told(shot) for shot in nearest_last])
