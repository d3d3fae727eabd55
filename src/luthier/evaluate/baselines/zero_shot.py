"""Zero-shot: the question alone, with the allowed answers named."""

from collections.abc import Sequence

from luthier.evaluate.baselines.setting import Setting
from luthier.examples.example import Example


def requests(setting: Setting, rows: Sequence[Example]) -> list[Example]:
    """Return each test row as it is asked."""
    return [setting.told(row) for row in rows]
