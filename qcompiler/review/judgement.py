"""What a review says of one model."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qcompiler.diffing.changes import Level
from qcompiler.errors import ExitCode, QcompileError
from qcompiler.review.changed import ChangedModel
from qcompiler.review.repository import Repository
from qcompiler.review.versions import TooLarge, restore

if TYPE_CHECKING:
    from qcompiler.diagnostics import Diagnostic
    from qcompiler.diffing.difference import Difference


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of every model.

    Attributes:
        base: The commit before.
        head: The commit after; "" for what is staged.
        target: Whose rules lint; None means those of Orin, and that findings in new models do not fail.
        largest: Bytes of a version that is still looked at.
        compare: Whether versions are compared; else each is linted.
    """

    base: str
    head: str
    fail_on: Level
    target: str | None = None
    largest: int = 1 << 62
    compare: bool = True


@dataclass(frozen=True, slots=True)
class Judgement:
    """One model's result.

    Attributes:
        words: The verdict in a line.
        status: An exit status.
        difference: Where two versions were compared.
        findings: Where one version was linted.
    """

    name: str
    words: str
    status: int
    difference: Difference | None = None
    findings: Sequence[Diagnostic] = ()


def judge(repository: Repository, model: ChangedModel, question: Question) -> Judgement:
    """Compare the versions of one model; lint a new one, note a deleted one, pass over one that is too large."""
    if model.after is None:
        return Judgement(model.name, "deleted", ExitCode.OK)
    try:
        with tempfile.TemporaryDirectory(prefix="qcompile-review-") as folder:
            if model.before is None or not question.compare:
                return _lint(repository, model.after, question, Path(folder))
            return _compare(repository, model, question, Path(folder))
    except TooLarge as error:
        words = f"not looked at: {error.args[0] >> 20} MiB is over the limit of {question.largest >> 20}"
        return Judgement(model.name, words, ExitCode.OK)
    except QcompileError as error:
        return Judgement(model.name, f"cannot be reviewed: {_local(error)}", error.exit_code)


def _compare(repository: Repository, model: ChangedModel, question: Question, folder: Path) -> Judgement:
    from qcompiler.diffing.compare import DiffOptions, compare_sides
    from qcompiler.diffing.sides import read_side

    assert model.before is not None
    assert model.after is not None
    before = restore(repository, question.base, model.before, folder / "before", question.largest)
    after = restore(repository, question.head, model.after, folder / "after", question.largest)
    sides = read_side(before), read_side(after)
    sides[0].label, sides[1].label = f"{question.base[:12]}:{model.before}", model.after
    found = compare_sides(*sides, DiffOptions(fail_on=question.fail_on, target=question.target))
    return Judgement(model.name, found.verdict, ExitCode.GATE if found.fails else ExitCode.OK, found)


def _lint(repository: Repository, name: str, question: Question, folder: Path) -> Judgement:
    from qcompiler.api import lint
    from qcompiler.diagnostics import DiagnosticLog, Severity
    from qcompiler.diffing.compare import DEFAULT_TARGET

    path = restore(repository, question.head, name, folder, question.largest)
    findings = lint(path, question.target or DEFAULT_TARGET)
    errors = DiagnosticLog(list(findings)).at_least(Severity.ERROR)
    failing = bool(errors) and question.target is not None
    words = f"{'new; ' if question.compare else ''}findings by the rules of {question.target or DEFAULT_TARGET}: "
    words += f"{len(findings)}, of these errors: {len(errors)}"
    return Judgement(name, words, ExitCode.GATE if failing else ExitCode.OK, findings=findings)


def _local(error: QcompileError) -> str:
    """The message without the temporary file it names."""
    return error.message + (f" ({error.hint})" if error.hint else "")
