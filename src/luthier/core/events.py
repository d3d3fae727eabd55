"""Events: the one way a room talks back, appended to the run folder as JSON lines."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from luthier.core.files import disk_errors


class Event(BaseModel):
    """One thing that happened in a room."""

    model_config = ConfigDict(frozen=True)

    room: str
    kind: Literal["start", "progress", "metrics", "snapshot", "note", "warning", "done"]
    message: str = ""
    data: dict[str, Any] = Field(default_factory=dict)
    time_s: float = Field(default_factory=time.time)


class Emit(Protocol):
    """What a room calls to report an event."""

    def __call__(self, event: Event, /) -> None:
        """Report one event."""
        ...


class EventLog:
    """Append events to a JSONL file and pass each on to listeners (a progress bar, TensorBoard)."""

    def __init__(self, path: Path, listeners: tuple[Callable[[Event], None], ...] = ()) -> None:
        self.path = path
        self.listeners = listeners

    def __call__(self, event: Event) -> None:
        """Write one line, flush it, and tell the listeners."""
        with disk_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(event.model_dump_json() + "\n")
        for listener in self.listeners:
            listener(event)


def read_events(path: Path) -> Iterator[Event]:
    """Yield the events of a log; a last line cut by a crash is passed over."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield Event.model_validate(json.loads(line))
