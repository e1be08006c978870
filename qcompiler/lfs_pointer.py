"""git-LFS pointers: three lines of text that stand for a file kept elsewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_LONGEST = 1024
_LINES = re.compile(rb"version https://git-lfs\S*\n(?:.*\n)*?oid sha256:([0-9a-f]{64})\nsize (\d+)\n?\Z")


@dataclass(frozen=True, slots=True)
class Pointer:
    """What a pointer says."""

    text: bytes
    sha256: str
    size: int


def read_pointer(path: Path) -> Pointer | None:
    """The pointer in `path`; None where there is no such file, or where it is the content itself."""
    if not path.is_file() or path.stat().st_size > _LONGEST:
        return None
    text = path.read_bytes()
    found = _LINES.match(text)
    return None if found is None else Pointer(text, found[1].decode(), int(found[2]))
