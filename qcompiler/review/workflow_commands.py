"""Workflow commands: lines on stdout that GitHub shows beside the files of a pull request."""

from __future__ import annotations

from collections.abc import Iterator

from qcompiler.diagnostics import Severity
from qcompiler.errors import ExitCode
from qcompiler.review.judgement import Judgement

_MOST = 10  # GitHub shows no more of one kind in a step


def workflow_commands(judgement: Judgement) -> Iterator[str]:
    """One line for the verdict and for each change or finding behind it."""
    kind = "error" if judgement.status != ExitCode.OK else "notice"
    yield _line(kind, judgement.name, judgement.words)
    found = judgement.difference
    if found is not None:
        failing = [change for change in found.changes if change.level >= found.fail_on]
        for change in failing[: _MOST - 1]:
            yield _line("error", judgement.name, f"{change.level.word}: {change.what}")
    worst = [item for item in judgement.findings if item.severity is not Severity.INFO]
    for item in worst[: _MOST - 1]:
        failing_word = "error" if judgement.status != ExitCode.OK and item.severity is Severity.ERROR else "warning"
        yield _line(failing_word, judgement.name, str(item))


def _line(kind: str, name: str, message: str) -> str:
    place = _escaped(name).replace(":", "%3A").replace(",", "%2C")
    return f"::{kind} file={place},title=qcompile::{_escaped(message)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
