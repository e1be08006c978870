"""What a difference is made of: levels, changes of a level, sections of changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from qcompiler.config import nearest
from qcompiler.errors import UsageError


class Level(IntEnum):
    """How much a change matters to whoever deploys the model; a higher number matters more."""

    NAMES = 1
    WEIGHTS = 2
    SCALES = 3
    STRUCTURE = 4
    PRECISION = 5
    INTERFACE = 6

    @property
    def word(self) -> str:
        """How it is written: `--fail-on precision`."""
        return self.name.lower()


LEVELS = tuple(sorted(Level, reverse=True))


def parse_level(word: str, where: str) -> Level:
    """The level called `word`.

    Raises:
        UsageError: There is none.
    """
    found = next((level for level in LEVELS if level.word == word), None)
    if found is None:
        raise UsageError(f"unknown level {word!r}", where=where, hint=nearest(word, [item.word for item in LEVELS], 6))
    return found


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a difference.

    Attributes:
        what: The change in words, names included.
        count: How many places it stands for.
        facts: The same for programs, in JSON's types.
    """

    level: Level
    what: str
    count: int = 1
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Section:
    """One topic.

    Attributes:
        name: Of a fixed list; see docs/diff.md.
        changes: Those that matter most first.
        notes: Lines that are no changes: totals, what was not compared and why.
        facts: Figures for programs, in JSON's types.
        rows: A table of (label, before, after), where the topic is one of counts.
    """

    name: str
    changes: Sequence[Change] = ()
    notes: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[tuple[str, str, str]] = ()

    def without(self, levels: frozenset[Level]) -> Section:
        """The same without changes of `levels`."""
        kept = tuple(change for change in self.changes if change.level not in levels)
        return Section(self.name, kept, self.notes, self.facts, self.rows)
