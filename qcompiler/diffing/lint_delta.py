"""Section "lint": findings of a target's rules that came or went; places are compared by partner, not by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import onnx_ir as ir

from qcompiler.diagnostics import Diagnostic
from qcompiler.diffing.changes import Section

_SHOWN = 5


def lint_section(first: ir.Model, second: ir.Model, target: str, partners: Mapping[str, str]) -> Section:
    """Findings of both models.

    Args:
        partners: Names of the first model to those of the second.

    Raises:
        UsageError: No such target.
    """
    from qcompiler.api import lint

    ours, theirs = lint(first, target), lint(second, target)
    came = _surplus(theirs, Counter((item.code, _partner(item.where, partners)) for item in ours))
    back = {after: before for before, after in partners.items()}
    went = _surplus(ours, Counter((item.code, _partner(item.where, back)) for item in theirs))
    summary = f"rules of {target}: findings {len(ours)} -> {len(theirs)}"
    notes = [summary + (f"; {len(came)} new, {len(went)} gone" if came or went else ", the same ones")]
    notes += _lines("+", came) + _lines("-", went)
    facts = {"target": target, "before": len(ours), "after": len(theirs),
             "new": [item.to_json() for item in came], "gone": [item.to_json() for item in went]}  # fmt: skip
    return Section("lint", (), tuple(notes), facts)


def _partner(where: str, partners: Mapping[str, str]) -> str:
    """The place in the other model; runtimes append to the names of nodes that they fuse."""
    name, rest = where, ""
    while name:
        if name in partners:
            return partners[name] + rest
        name, slash, tail = name.rpartition("/")
        rest = slash + tail + rest
    return where


def _surplus(findings: Sequence[Diagnostic], known: Counter[tuple[str, str]]) -> list[Diagnostic]:
    left = Counter(known)
    found = []
    for item in findings:
        if left[item.code, item.where] > 0:
            left[item.code, item.where] -= 1
        else:
            found.append(item)
    return found


def _lines(sign: str, findings: Sequence[Diagnostic]) -> list[str]:
    """One line for each rule: the first place and how many more."""
    rules: dict[str, list[Diagnostic]] = {}
    for item in findings:
        rules.setdefault(item.code, []).append(item)
    lines = []
    for code, items in list(rules.items())[:_SHOWN]:
        more = f" and {len(items) - 1} more" if len(items) > 1 else ""
        lines.append(f"{sign} {code} {items[0].severity.value} {items[0].where}: {items[0].message}{more}")
    if len(rules) > _SHOWN:
        lines.append(f"{sign} {len(rules) - _SHOWN} more rules")
    return lines
