"""Prompts that begin alike: grouped, so that the common beginning is computed and kept once."""

from collections.abc import Sequence
from dataclasses import dataclass

MIN_SHARED_TOKENS = 8
"""Shorter common beginnings cost more in bookkeeping than they save."""
SPLIT_COST_TOKENS = 256
"""Tokens that one more group must save: small batches waste the machine."""


@dataclass(frozen=True)
class Group:
    """Rows (indices into the prompts) that share their first `shared` tokens."""

    shared: int
    rows: tuple[int, ...]


def group_by_prefix(prompts: Sequence[Sequence[int]]) -> list[Group]:
    """Group prompts by what they begin with; each keeps at least its last token for itself."""
    order = sorted(range(len(prompts)), key=lambda i: list(prompts[i]))
    common = [0] + [_shared_by(prompts[a], prompts[b]) for a, b in zip(order, order[1:], strict=False)]
    groups: list[Group] = []
    alone: list[int] = []
    waiting = [(0, len(order))] if order else []
    while waiting:
        first, last = waiting.pop()
        shared = min(common[first + 1 : last], default=0)
        together: list[int] = []
        for begin, end in _parts(common, first, last, shared):
            # What the rows of a part share beyond `shared` decides whether it goes its own way.
            if sum(common[begin + 1 : end]) - shared * (end - begin - 1) > SPLIT_COST_TOKENS:
                waiting.append((begin, end))
            else:
                together += order[begin:end]
        if shared >= MIN_SHARED_TOKENS and len(together) > 1:
            groups.append(Group(shared, tuple(together)))
        else:
            alone += together
    return groups + ([Group(0, tuple(alone))] if alone else [])


def _shared_by(a: Sequence[int], b: Sequence[int]) -> int:
    return min(common_prefix(a, b), len(a) - 1, len(b) - 1)


def _parts(common: list[int], first: int, last: int, shared: int) -> list[tuple[int, int]]:
    """Cut the sorted rows [first, last) wherever neighbours share no more than all do."""
    cuts = [k for k in range(first + 1, last) if common[k] <= shared]
    return list(zip([first, *cuts], [*cuts, last], strict=True))


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many leading tokens two rows have in common."""
    for index, (left, right) in enumerate(zip(a, b, strict=False)):
        if left != right:
            return index
    return min(len(a), len(b))


def batches(rows: Sequence[int], lengths: Sequence[int], *, tokens: int, rows_at_most: int) -> list[list[int]]:
    """Cut rows, longest first, into batches of at most `tokens` padded tokens (always at least one row)."""
    order = sorted(rows, key=lambda row: (-lengths[row], row))
    cut: list[list[int]] = []
    for row in order:
        full = not cut or len(cut[-1]) >= rows_at_most or (len(cut[-1]) + 1) * lengths[cut[-1][0]] > tokens
        if full:
            cut.append([])
        cut[-1].append(row)
    return cut
