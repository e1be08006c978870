"""Names to passes and targets: tables written by hand for our own, entry points for others.

Nothing is imported until it is asked for, so `--help` and `--list` stay fast and never load an extra.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from qcompiler.emitter import Emitter
from qcompiler.errors import UsageError
from qcompiler.pipeline import Pass
from qcompiler.target import Target

PASS_GROUP = "qcompiler.passes"
TARGET_GROUP = "qcompiler.targets"


def load_attribute(reference: str) -> Any:
    """The object that "module:attribute" names."""
    module, _, attribute = reference.partition(":")
    return getattr(import_module(module), attribute)


@cache
def _table(group: str) -> Mapping[str, str]:
    built_in: Mapping[str, str] = import_module(_BUILT_IN[group]).TABLE
    table = dict(built_in)
    for point in entry_points(group=group):
        if point.name in table and table[point.name] != point.value:
            raise UsageError(f"two {group} are called {point.name!r}: {table[point.name]} and {point.value}")
        table[point.name] = point.value
    return table


_BUILT_IN = {PASS_GROUP: "qcompiler.passes", TARGET_GROUP: "qcompiler.backends"}


def pass_names() -> tuple[str, ...]:
    """Names of all passes, ours and those of installed plug-ins."""
    return tuple(sorted(_table(PASS_GROUP)))


def target_names() -> tuple[str, ...]:
    """Names of all targets, without aliases."""
    return tuple(sorted(_table(TARGET_GROUP)))


def find_pass(name: str) -> type[Pass]:
    """The class of the pass called `name`; UsageError with the nearest names otherwise."""
    table = _table(PASS_GROUP)
    if name not in table:
        raise unknown("pass", name, table)
    found: type[Pass] = load_attribute(table[name])
    return found


def find_target(name: str) -> Target:
    """The target called `name` or by one of its aliases; UsageError with the nearest names otherwise."""
    table = _table(TARGET_GROUP)
    if name in table:
        found: Target = load_attribute(table[name])
        return found
    targets = [load_attribute(reference) for reference in table.values()]
    for target in targets:
        if name in target.aliases:
            return target  # type: ignore[no-any-return]
    raise unknown("target", name, [*table, *(alias for target in targets for alias in target.aliases)])


def make_emitter(target: Target) -> Emitter:
    """The emitter of this target."""
    emitter: Emitter = load_attribute(target.emitter)(target)
    return emitter


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not in a table, with the nearest ones."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or names[:12]
    return UsageError(f"unknown {kind} {name!r}", hint=f"try {', '.join(near)}")
