"""Split: who learns and who is tested, as a pure function of seed and content."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

TRAIN, VALIDATION, TEST = 0, 1, 2


@dataclass(frozen=True)
class Rows:
    """What the split looks at, one entry a row."""

    groups: np.ndarray
    """Rows with the same number stay together."""
    keys: np.ndarray
    """A hash of the row's content; the order of rows and files plays no part."""
    strata: np.ndarray
    """The number of the row's label; the same for all rows where there are no labels."""


@dataclass(frozen=True)
class _Group:
    members: list[int]
    order: bytes


def assign(rows: Rows, *, validation: float, test: float, seed: int) -> np.ndarray:
    """Return 0 (train), 1 (validation) or 2 (test) for each row; some rows always stay to train on."""
    count = len(rows.groups)
    parts = np.zeros(count, dtype=np.uint8)
    strata = _strata(rows, seed)
    for part, share in ((TEST, test), (VALIDATION, validation)):
        quotas = _quotas({stratum: _free(groups, parts) for stratum, groups in strata.items()}, round(share * count))
        for stratum, groups in strata.items():
            _fill(parts, groups, part, quotas[stratum])
        if round(share * count) and not (parts == part).any():
            _fill_with_smallest(parts, [group for groups in strata.values() for group in groups], part)
    return parts


def _strata(rows: Rows, seed: int) -> dict[int, list[_Group]]:
    members: dict[int, list[int]] = defaultdict(list)
    for row, group in enumerate(rows.groups.tolist()):
        members[group].append(row)
    strata: dict[int, list[_Group]] = defaultdict(list)
    for group in members.values():
        first = min(group, key=lambda row: int(rows.keys[row]))
        order = hashlib.blake2b(f"{seed}:{rows.keys[first]}".encode(), digest_size=16).digest()
        stratum = int(rows.strata[first])
        strata[stratum].append(_Group(group, order))
    return {stratum: sorted(strata[stratum], key=lambda group: group.order) for stratum in sorted(strata)}


def _free(groups: list[_Group], parts: np.ndarray) -> int:
    return sum(len(group.members) for group in groups if parts[group.members[0]] == TRAIN)


def _quotas(free: dict[int, int], wanted: int) -> dict[int, int]:
    """Share out the wanted rows by stratum, largest remainders first; each stratum keeps a row to train on."""
    total = sum(free.values()) or 1
    exact = {stratum: wanted * rows / total for stratum, rows in free.items()}
    quotas = {stratum: min(int(exact[stratum]), max(free[stratum] - 1, 0)) for stratum in free}
    for stratum in sorted(free, key=lambda stratum: (quotas[stratum] - exact[stratum], stratum)):
        if sum(quotas.values()) < wanted and quotas[stratum] < free[stratum] - 1:
            quotas[stratum] += 1
    return quotas


def _fill(parts: np.ndarray, groups: list[_Group], part: int, quota: int) -> None:
    for group in groups:
        if parts[group.members[0]] == TRAIN and len(group.members) <= quota:
            parts[group.members] = part
            quota -= len(group.members)


def _fill_with_smallest(parts: np.ndarray, groups: list[_Group], part: int) -> None:
    """Where every group is larger than the share: take the smallest, unless little would be left to train on."""
    free = [group for group in groups if parts[group.members[0]] == TRAIN]
    smallest = min(free, key=lambda group: (len(group.members), group.order), default=None)
    if smallest and 3 * len(smallest.members) <= int(np.sum(parts == TRAIN)):
        parts[smallest.members] = part
