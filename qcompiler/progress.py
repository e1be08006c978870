"""Progress: what a long step tells whoever watches. The terminal shows bars; everybody else hears nothing."""

from __future__ import annotations

import sys
from typing import IO, Any, Protocol


class Progress(Protocol):
    """Told about phases and their steps; `phase` ends the phase before it."""

    def phase(self, name: str, total: int | None = None) -> None:
        """A phase begins; `total` steps where known."""

    def advance(self, n: int = 1) -> None:
        """`n` steps of the current phase are done."""

    def done(self) -> None:
        """Everything is done; bars go away."""


class Silent:
    """No bars."""

    def phase(self, name: str, total: int | None = None) -> None:
        """Nothing."""

    def advance(self, n: int = 1) -> None:
        """Nothing."""

    def done(self) -> None:
        """Nothing."""


class Bars:
    """One bar per phase on stderr, drawn by rich, gone at the end."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Drawing

        self._drawing = Drawing(
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: Any = None
        self._drawing.start()

    def phase(self, name: str, total: int | None = None) -> None:
        """Finish the bar before and start one called `name`."""
        self._finish()
        self._task = self._drawing.add_task(name, total=total)

    def advance(self, n: int = 1) -> None:
        """Move the current bar."""
        if self._task is not None:
            self._drawing.advance(self._task, n)

    def done(self) -> None:
        """Take the bars away."""
        self._finish()
        self._drawing.stop()

    def _finish(self) -> None:
        if self._task is not None:
            self._drawing.remove_task(self._task)
            self._task = None


def for_stream(stream: IO[str] | None = None, *, quiet: bool = False) -> Progress:
    """Bars where `stream` (stderr) is a terminal, else silence."""
    stream = stream or sys.stderr
    return Bars() if stream is not None and stream.isatty() and not quiet else Silent()
