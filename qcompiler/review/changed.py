"""Which models a range of commits changes: .onnx files, and those whose weight files alone changed."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from qcompiler.errors import ModelError
from qcompiler.review.repository import Repository
from qcompiler.review.versions import TooLarge, restore_graph


@dataclass(frozen=True, slots=True)
class ChangedModel:
    """One model; `before` or `after` is None where it is new or deleted."""

    before: str | None
    after: str | None

    @property
    def name(self) -> str:
        """Its path now, or the last it had."""
        return self.after or self.before or ""


def changed_models(repository: Repository, base: str, head: str, patterns: Sequence[str]) -> list[ChangedModel]:
    """Models that match a pattern and differ between two commits, by path."""
    changes = repository.changes(base, head)
    wanted = [re.compile(glob_expression(pattern)) for pattern in patterns]

    def matches(name: str) -> bool:
        return any(expression.fullmatch(name) for expression in wanted)

    found = {}
    for letter, before, after in changes:
        if not after.endswith(".onnx") or not matches(after):
            continue
        found[after] = ChangedModel(None if letter == "A" else before, None if letter == "D" else after)
    touched = {after for _, _, after in changes if not after.endswith(".onnx")}
    folders = {parent for name in touched for parent in PurePosixPath(name).parents}
    for name in repository.files(head):
        near = PurePosixPath(name).parent in folders  # a graph is read only where a file near it changed
        if not near or not name.endswith(".onnx") or name in found or not matches(name):
            continue
        if touched & _weight_files(repository, head, name):
            found[name] = ChangedModel(name, name)
    return [found[name] for name in sorted(found)]


def glob_expression(pattern: str) -> str:
    """A glob as a regular expression: `**/` is any number of folders, `*` and `?` stay within one."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return "".join(parts.get(piece, re.escape(piece)) for piece in pieces)


def _weight_files(repository: Repository, commit: str, name: str) -> set[str]:
    """Paths of the files that hold its weights; none where it cannot be read, which its own change would show."""
    from qcompiler.manifest import external_locations

    with tempfile.TemporaryDirectory(prefix="qcompile-review-") as folder:
        try:
            path = restore_graph(repository, commit, name, Path(folder))
            return {str(PurePosixPath(name).parent / location) for location in external_locations(path)}
        except (ModelError, TooLarge):
            return set()
