"""Prompts seen before: their keys and values, found by the longest common beginning."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

Whose = tuple[str, Path | None, int]
"""Who asked, and the adapter's folder with the number of its reading; None and 0 for the base."""
BLOCK = 16
"""Tokens by which common beginnings are found."""
Key = tuple[Whose, int]


@dataclass(frozen=True)
class Seen:
    """One prompt's keys and values, (layers, 2, G, T, D)."""

    whose: Whose
    ids: tuple[int, ...]
    kv: torch.Tensor


class Prefixes:
    """The most recently used prompts, up to a budget of memory."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._bytes = 0
        self._seen: OrderedDict[tuple[Whose, tuple[int, ...]], Seen] = OrderedDict()
        self._by_block: dict[Key, Seen] = {}

    def find(self, whose: Whose, ids: Sequence[int]) -> tuple[int, torch.Tensor | None]:
        """Return how many of the first tokens are known, all but one at most, and their keys and values."""
        found, tokens = None, 0
        for count, key in _blocks(whose, ids[:-1]):
            if key not in self._by_block:
                break
            found, tokens = self._by_block[key], count
        # Equal hashes are nearly always equal tokens; an answer must not hang on "nearly".
        if found is None or found.whose != whose or found.ids[:tokens] != tuple(ids[:tokens]):
            return 0, None
        self._seen.move_to_end((whose, found.ids))
        return tokens, found.kv[..., :tokens, :]

    def keep(self, whose: Whose, ids: Sequence[int], kv: torch.Tensor) -> None:
        """Remember a prompt; the least recently used ones make room."""
        name = (whose, tuple(ids))
        if len(ids) < BLOCK or kv.nbytes > self._limit or name in self._seen:
            return
        seen = Seen(*name, kv)
        self._seen[name] = seen
        self._bytes += kv.nbytes
        self._by_block |= {key: seen for _, key in _blocks(whose, ids)}
        while self._bytes > self._limit:
            self._forget(next(iter(self._seen.values())))

    def forget(self, adapter: Path) -> None:
        """Forget what an adapter computed."""
        for seen in [seen for seen in self._seen.values() if seen.whose[1] == adapter]:
            self._forget(seen)

    def _forget(self, seen: Seen) -> None:
        del self._seen[seen.whose, seen.ids]
        self._bytes -= seen.kv.nbytes
        for _, key in _blocks(seen.whose, seen.ids):
            if self._by_block.get(key) is seen:
                del self._by_block[key]


def _blocks(whose: Whose, ids: Sequence[int]) -> Iterator[tuple[int, Key]]:
    """Yield each whole block's end, and the key of all tokens up to it."""
    chain = 0
    for end in range(BLOCK, len(ids) + 1, BLOCK):
        chain = hash((chain, tuple(ids[end - BLOCK : end])))
        yield end, (whose, chain)
