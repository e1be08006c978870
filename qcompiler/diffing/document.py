"""The result as JSON; docs/diff.md has the schema."""

from __future__ import annotations

from typing import Any

from qcompiler.diffing.changes import Change, Section
from qcompiler.diffing.difference import Difference
from qcompiler.manifest import plain

SCHEMA = "qcompile-diff/1"


def difference_document(found: Difference) -> dict[str, Any]:
    """{"schema", "first", "second", "verdict", "sections"}, in JSON's types."""
    return {
        "schema": SCHEMA,
        "first": found.first,
        "second": found.second,
        "verdict": {
            "words": found.verdict,
            "level": None if found.level is None else found.level.word,
            "fail_on": found.fail_on.word,
            "fails": found.fails,
            "counts": {level.word: count for level, count in found.counts.items()},
        },
        "sections": [_section(item) for item in found.sections],
    }


def _section(section: Section) -> dict[str, Any]:
    return {
        "name": section.name,
        "changes": [_change(item) for item in section.changes],
        "notes": list(section.notes),
        "rows": [list(row) for row in section.rows],
        "facts": plain(dict(section.facts)),
    }


def _change(change: Change) -> dict[str, Any]:
    return {"level": change.level.word, "what": change.what, "count": change.count, "facts": plain(dict(change.facts))}
