"""The result of a comparison: sections, the level reached, and whether that is too much."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qcompiler.diffing.changes import LEVELS, Change, Level, Section


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs between two models.

    Attributes:
        first: Path or name of the model before.
        second: Of the model after.
        sections: In the order in which they are shown.
        fail_on: The least level that fails.
    """

    first: str
    second: str
    sections: tuple[Section, ...]
    fail_on: Level

    @property
    def changes(self) -> Iterator[Change]:
        """All changes, section by section."""
        return (change for section in self.sections for change in section.changes)

    @property
    def level(self) -> Level | None:
        """The highest level of a change; None where there is none."""
        return max((change.level for change in self.changes), default=None)

    @property
    def fails(self) -> bool:
        """Whether a change reaches `fail_on`."""
        return self.level is not None and self.level >= self.fail_on

    @property
    def counts(self) -> dict[Level, int]:
        """Places changed, by level, the highest level first."""
        found = {level: sum(item.count for item in self.changes if item.level is level) for level in LEVELS}
        return {level: count for level, count in found.items() if count}

    @property
    def verdict(self) -> str:
        """One line."""
        if self.level is None:
            return "the same graph, weights and names"
        counts = ", ".join(f"{level.word} {count}" for level, count in self.counts.items())
        if self.level is Level.NAMES:
            return f"the same graph and weights under other names ({counts})"
        return f"differs in {self.level.word} ({counts})"
