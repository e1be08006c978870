"""Hooks for pre-commit: several files at once, from the index or from the range that is pushed."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from qcompiler.commands.arguments import Parser
from qcompiler.diffing.changes import parse_level
from qcompiler.errors import ExitCode, UsageError
from qcompiler.review.action import overall
from qcompiler.review.changed import ChangedModel
from qcompiler.review.judgement import Judgement, Question, judge
from qcompiler.review.repository import Repository


def run_hook(words: Sequence[str], environment: Mapping[str, str], folder: Path) -> int:
    """`lint [--target T] FILE...` or `diff [--fail-on LEVEL] FILE...`; prints a line for each model and change.

    A push is told from a commit by PRE_COMMIT_FROM_REF and PRE_COMMIT_TO_REF, which pre-commit sets.

    Raises:
        UsageError: As `action.run_action`.
    """
    args = _parsed(words)
    repository = Repository.of(folder)
    before, after = environment.get("PRE_COMMIT_FROM_REF"), environment.get("PRE_COMMIT_TO_REF")
    head = repository.commit(after) if after else ""
    base = repository.commit(before or "HEAD")
    level = parse_level(args.fail_on, "--fail-on")
    question = Question(base or "", head or "", level, args.target, compare=args.verb == "diff")
    judgements = []
    for name in args.files:
        path = (folder / name).resolve().relative_to(repository.root.resolve()).as_posix()
        known = base is not None and repository.size(f"{base}:{path}") is not None
        judgements.append(judge(repository, ChangedModel(path if known else None, path), question))
        _say(judgements[-1])
    return overall(judgements)


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    verb = words[0] if words else ""
    if verb not in ("lint", "diff"):
        raise UsageError(f"unknown hook {verb!r}", hint="lint or diff")
    parser = Parser(f"python -m qcompiler.review {verb}", "A hook of pre-commit.")
    parser.add_argument("--target", metavar="T", default=None)
    parser.add_argument("--fail-on", metavar="LEVEL", default="precision")
    parser.add_argument("files", metavar="FILE", nargs="*", default=[])
    args = parser.parse(words[1:])
    args.verb = verb
    return args


def _say(judgement: Judgement) -> None:
    print(f"{judgement.name}: {judgement.words}")
    found = judgement.difference
    if found is not None and judgement.status != ExitCode.OK:
        for change in found.changes:
            if change.level >= found.fail_on:
                print(f"  {change.level.word}: {change.what}")
    for item in judgement.findings:
        print(f"  {item}")
