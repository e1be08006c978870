"""SIGTERM as an exception, so that unfinished output is cleaned up before the process ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived; a KeyboardInterrupt, since whoever cleans up after Ctrl-C cleans up after this."""


@contextmanager
def terminate_as_exception() -> Iterator[None]:
    """While inside, SIGTERM raises `Terminated`. Does nothing off the main thread or where a handler stands already."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def handler(number: int, frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
