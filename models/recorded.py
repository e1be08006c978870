"""Float scores measured once, in recorded.json: what `list` and cards show beside those of this machine.

Written by `python -m models score NAME --record`, with and without QCOMPILE_DATA.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.bootstrap import Interval
from models.fetch import write_text
from models.zoo import Recorded

FILE = Path(__file__).resolve().parent / "recorded.json"


def of(name: str, file: Path = FILE) -> tuple[Recorded, ...]:
    """What was recorded of the entry called `name`."""
    return tuple(Recorded(**item) for item in _read(file).get(name, ()))


def record(name: str, data: str, measures: Mapping[str, Interval], file: Path = FILE) -> None:
    """Replace what was recorded of `name` on the same kind of data."""
    document = _read(file)
    rows = [item for item in document.get(name, ()) if item["data"] != data]
    rows += [{"measure": key, **asdict(found), "data": data} for key, found in measures.items()]
    write_text(file, json.dumps(dict(sorted({**document, name: rows}.items())), indent=1) + "\n")


def _read(file: Path) -> dict[str, list[dict[str, Any]]]:
    document: dict[str, list[dict[str, Any]]] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return document
