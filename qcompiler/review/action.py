"""The step of the GitHub Action: settings from INPUT_* variables, results where GitHub looks for them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qcompiler.diffing.changes import parse_level
from qcompiler.errors import ExitCode, UsageError
from qcompiler.review.changed import changed_models
from qcompiler.review.comment import put_comment
from qcompiler.review.judgement import Judgement, Question, judge
from qcompiler.review.repository import Repository
from qcompiler.review.summary import summary
from qcompiler.review.workflow_commands import workflow_commands


def run_action(environment: Mapping[str, str], folder: Path) -> int:
    """Review what changed between INPUT_BASE and HEAD; the exit status, which is also the output `status`.

    Raises:
        UsageError: A setting is wrong, the folder is no repository, the base is not in the clone.
    """
    mode = environment.get("INPUT_MODE") or "diff"
    if mode not in ("diff", "lint"):
        raise UsageError(f"unknown mode {mode!r}", where="mode", hint="diff or lint")
    fail_on = parse_level(environment.get("INPUT_FAIL_ON") or "precision", "fail-on")
    largest = _bytes(environment.get("INPUT_MAX_SIZE") or "2048")
    repository = Repository.of(folder)
    base = environment.get("INPUT_BASE") or _event(environment).get("base", "")
    if not base:
        raise UsageError("no base to compare with", where="base", hint="give one where the event is no pull request")
    head = repository.commit("HEAD")
    if head is None:
        raise UsageError("the repository has no commit", where=str(folder))
    question = Question(repository.base_commit(str(base), head), head, fail_on,
                        environment.get("INPUT_TARGET") or None, largest, mode == "diff")  # fmt: skip
    patterns = (environment.get("INPUT_PATHS") or "**/*.onnx").replace(",", "\n").split()
    models = changed_models(repository, question.base, head, patterns)
    judgements = []
    for model in models:
        judgements.append(judge(repository, model, question))
        for line in workflow_commands(judgements[-1]):
            print(line, flush=True)
    text = summary(judgements)
    _append(environment.get("GITHUB_STEP_SUMMARY"), text)
    status = overall(judgements)
    pages = Path(environment.get("RUNNER_TEMP") or folder) / "qcompile-review"
    written = write_pages(judgements, pages)
    _append(environment.get("GITHUB_OUTPUT"), f"status={status}\npages={pages if written else ''}\n")
    number = _event(environment).get("number")
    if (environment.get("INPUT_COMMENT") or "true") == "true" and number:
        why_not = put_comment(text, int(number), environment, new=bool(judgements))
        if why_not:
            print(f"::warning title=qcompile::no comment: {why_not}")
    return status


def overall(judgements: list[Judgement]) -> int:
    """1 where a model misses its gate, else the first status of one that could not be reviewed, else 0."""
    states = [item.status for item in judgements if item.status != ExitCode.OK]
    return int(ExitCode.GATE) if ExitCode.GATE in states else int(states[0]) if states else int(ExitCode.OK)


def write_pages(judgements: list[Judgement], folder: Path) -> int:
    """One HTML page for each comparison; how many there are."""
    from qcompiler.diffing.html import difference_html

    compared = [item for item in judgements if item.difference is not None]
    for item in compared:
        assert item.difference is not None
        folder.mkdir(parents=True, exist_ok=True)
        page = folder / f"{item.name.replace('/', '__')}.html"
        page.write_text(difference_html(item.difference), encoding="utf-8")
    return len(compared)


def _bytes(megabytes: str) -> int:
    if not megabytes.isdecimal():
        raise UsageError(f"expected a number of MiB, got {megabytes!r}", where="max-size")
    return int(megabytes) << 20


def _event(environment: Mapping[str, str]) -> dict[str, Any]:
    """Base and number of the pull request that started the workflow; empty for other events."""
    path = environment.get("GITHUB_EVENT_PATH")
    if not path or not Path(path).is_file():
        return {}
    pull = json.loads(Path(path).read_text(encoding="utf-8")).get("pull_request") or {}
    return {"base": pull.get("base", {}).get("sha", ""), "number": pull.get("number")} if pull else {}


def _append(path: str | None, text: str) -> None:
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
    elif path is None:
        sys.stdout.write(text)
