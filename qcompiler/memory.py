"""Giving memory back to the system."""

from __future__ import annotations

import ctypes
import sys


def release_freed() -> None:
    """Hand freed memory back where the C library keeps it (glibc: sessions free in pieces that it hoards)."""
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # absent in musl
        trim(0)
