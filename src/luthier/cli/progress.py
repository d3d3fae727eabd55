"""What a person sees while a run works: one line per event, and a bar on a terminal."""

import sys
import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars

from luthier.core.events import Event

PLAIN_EVERY_S = 15.0
"""Seconds between two lines of progress where there is no terminal for a bar."""
TITLES = {"model": "base model", "plan": "plan", "data": "data", "train": "training"}
TITLES |= {"evaluate": "evaluation", "export": "export"}


class Progress:
    """A listener that shows events on stderr."""

    def __init__(self) -> None:
        self.console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self.bars = Bars(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}", markup=False),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._room = ""
        self._told_s = 0.0

    def __enter__(self) -> Self:
        """Begin to show."""
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        self.bars.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if event.room == "jobs":
            self._turn(event)
        elif event.kind == "metrics":
            data = event.data
            self._advance("training", data["step"], data["steps"], metrics_text(data))
        elif event.kind == "progress":
            self._progress(event)
        elif event.message and (event.room, event.kind) != ("evaluate", "done"):
            self._line(event)

    def _turn(self, event: Event) -> None:
        if event.kind == "start":
            self._heading(event.message)
        elif event.kind == "done":
            self._clear()
            self._print(f"  done in {duration(event.data['seconds'])}")
        else:
            self._print(event.message)

    def _line(self, event: Event) -> None:
        if event.room not in ("jobs", self._room):
            self._heading(event.room)
        self._print(f"  {'warning: ' if event.kind == 'warning' else ''}{event.message}")

    def _progress(self, event: Event) -> None:
        done, total = event.data.get("done"), event.data.get("total", event.data.get("of"))
        if done is not None and total:
            self._advance(TITLES.get(event.room, event.room), done, total, event.message)
        elif self._is_time():
            rows = f": {event.data['rows']:,}" if "rows" in event.data else ""
            self._print(f"  {event.message}{rows}")

    def _advance(self, title: str, done: int, total: int, said: str) -> None:
        if self.bars.disable:
            if done == total or self._is_time():
                self._print(f"  {title} {done}/{total}  {said}")
            return
        task = next((task.id for task in self.bars.tasks if task.description == title), None)
        if task is None:
            task = self.bars.add_task(title, total=total, said=said)
        self.bars.update(task, completed=done, total=total, said=said)

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now - self._told_s < PLAIN_EVERY_S:
            return False
        self._told_s = now
        return True

    def _heading(self, room: str) -> None:
        self._clear()
        self._room = room
        self._print(TITLES.get(room, room))

    def _clear(self) -> None:
        for task in self.bars.task_ids:
            self.bars.remove_task(task)

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False)


def metrics_text(data: dict[str, Any]) -> str:
    """Write one row of training metrics: loss, validation loss, speed, processor, memory, time left."""
    parts = [
        (f"loss {data['loss']:.3f}" if "loss" in data else ""),
        (f"validation {data['validation_loss']:.3f}" if data.get("validation_loss") is not None else ""),
        (f"{data['tokens_per_second']:,.0f} tokens/s" if "tokens_per_second" in data else ""),
        (f"CPU {data['cpu_percent']:.0f} %" if "cpu_percent" in data else ""),
        (f"{data['memory_bytes'] / 1e9:.1f} GB" if "memory_bytes" in data else ""),
        (f"{duration(data['seconds_left'])} left" if "seconds_left" in data else ""),
    ]
    return "  ".join(part for part in parts if part)


def duration(seconds: float) -> str:
    """Write a time as a person says it: `8 s`, `3:05 min`, `2:10 h`."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    return f"{minutes // 60}:{minutes % 60:02} h"
