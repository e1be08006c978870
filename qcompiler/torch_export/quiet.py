"""Exporters talk on stdout and stderr, from Python and C++, in warnings and logs; none of it is for the user."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout


@contextmanager
def hushed() -> Iterator[None]:
    """Nothing is printed, warned or logged inside; exceptions pass."""
    before = logging.root.manager.disable
    python = redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO())
    with warnings.catch_warnings(), _descriptors_closed(), python[0], python[1]:
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)


@contextmanager
def _descriptors_closed() -> Iterator[None]:
    """What C++ writes goes nowhere: descriptors 1 and 2 point to the null device for the time."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    null = os.open(os.devnull, os.O_WRONLY)
    kept = {number: os.dup(number) for number in (1, 2) if _is_open(number)}
    try:
        for number in kept:
            os.dup2(null, number)
        yield
    finally:
        for number, copy in kept.items():
            os.dup2(copy, number)
            os.close(copy)
        os.close(null)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
