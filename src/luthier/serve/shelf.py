"""Which adapters are in memory: read beside the engine's thread, the least recently used leave."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from luthier.core.errors import LuthierError, ModelError
from luthier.serve.adapters import EMPTY, Adapter, Registry, Size, changed, read_adapter

Then = Callable[[LuthierError | None], None]
"""Called once an adapter is there, or cannot be had."""


class Shelf:
    """The adapters; `registry` is replaced whole, and the engine looks at it between steps."""

    def __init__(self, sizes: Mapping[str, Size], limit_bytes: int) -> None:
        self.registry: Registry = EMPTY
        self._sizes = sizes
        self._limit = limit_bytes
        self._held: Counter[Path] = Counter()
        self._used: OrderedDict[Path, None] = OrderedDict()
        self._unwanted: set[Path] = set()
        self._closed = False
        self._state = threading.Lock()
        # Without OpenMP's helpers: they would slow down the engine's; see its `_run`.
        self._reader = ThreadPoolExecutor(1, "adapters", torch.set_num_threads, (1,))

    def hold(self, adapter: Path, then: Then) -> None:
        """Keep an adapter in memory until it is let go; `then` hears when it is there."""
        with self._state:
            self._held[adapter] += 1
            self._unwanted.discard(adapter)
            is_there = adapter in self.registry.places
            self._used[adapter] = None
            self._used.move_to_end(adapter)
        if is_there:
            then(None)
        else:
            self._soon(self._bring, adapter, then)

    def let_go(self, adapter: Path) -> None:
        """Take back one `hold`."""
        with self._state:
            self._held[adapter] -= 1
            is_over = self.registry.bytes > self._limit
            tidy = not self._held[adapter] and (is_over or adapter in self._unwanted)
        if tidy:
            self._soon(self._put_away)

    def unload(self, adapter: Path) -> None:
        """Forget an adapter once nobody holds it."""
        with self._state:
            self._unwanted.add(adapter)
        self._soon(self._put_away)

    def close(self) -> None:
        """End the reading, once what was asked for is there."""
        with self._state:
            self._closed = True
        self._reader.shutdown()

    def _soon(self, work: Callable[..., None], *given: object) -> None:
        with self._state:
            if not self._closed:
                self._reader.submit(work, *given)

    def _bring(self, adapter: Path, then: Then) -> None:
        try:
            if adapter not in self.registry.places:
                self._replace(self._spare, add=read_adapter(adapter, self._sizes))
                self._replace(self._too_many)
            failed = None
        except LuthierError as error:
            failed = error
        except Exception as error:  # noqa: BLE001 (a request must not wait for ever)
            why = type(error).__name__
            failed = ModelError("the adapter cannot be read", where={"adapter": adapter.name}, why=why)
        if failed is not None:
            with self._state:
                self._used.pop(adapter, None)
        then(failed)

    def _put_away(self) -> None:
        self._replace(self._spare)
        self._replace(self._too_many)

    def _replace(self, choose: Callable[[], frozenset[Path]], *, add: Adapter | None = None) -> None:
        """Put a new registry in place, without the adapters chosen; one that is held meanwhile stays."""
        while True:
            with self._state:
                drop = choose()
            if not drop and add is None:
                return
            if self._put(changed(self.registry, add=add, drop=drop), drop):
                return

    def _put(self, made: Registry, drop: frozenset[Path]) -> bool:
        """Put a registry in place, unless an adapter that it lacks is held by now."""
        with self._state:
            if any(self._held[adapter] for adapter in drop):
                return False
            # One assignment: a step sees the registry before or after, never between.
            self.registry = made
            self._unwanted -= drop
            for adapter in drop:
                self._used.pop(adapter, None)
            return True

    def _spare(self) -> frozenset[Path]:
        """Return the unwanted adapters that nobody holds."""
        here = self.registry.places.keys()
        return frozenset(adapter for adapter in self._unwanted & here if not self._held[adapter])

    def _too_many(self) -> frozenset[Path]:
        """Return the least recently used adapters that go so that the rest fit; never one that is held."""
        rows = {adapter: last - first for adapter, (first, last) in self.registry.places.items()}
        row_bytes = self.registry.bytes / max(sum(rows.values()), 1)
        dropped: set[Path] = set()
        for adapter in self._used:
            if row_bytes * sum(rows.values()) <= self._limit:
                break
            if adapter in rows and not self._held[adapter]:
                dropped.add(adapter)
                rows.pop(adapter)
        return frozenset(dropped)
