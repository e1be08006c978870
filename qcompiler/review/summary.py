"""The review as Markdown: for the job summary and the comment."""

from __future__ import annotations

from collections.abc import Sequence

from qcompiler.diffing.markdown import difference_markdown, plain_markdown
from qcompiler.errors import ExitCode
from qcompiler.review.judgement import Judgement

MARKER = "<!-- qcompile review -->"
LONGEST = 60_000
"""GitHub takes 65,536 characters in a comment."""
_FINDINGS = 15


def summary(judgements: Sequence[Judgement]) -> str:
    """A table of models, then each one's difference or findings; cut before GitHub's limit."""
    if not judgements:
        return f"{MARKER}\n## Models\n\nNo model changed.\n"
    lines = [MARKER, "## Models", "", "| | model | verdict |", "| --- | --- | --- |"]
    lines += [f"| {_mark(item)} | {plain_markdown(item.name)} | {plain_markdown(item.words)} |" for item in judgements]
    text = "\n".join(lines) + "\n"
    for place, item in enumerate(judgements):
        part = _details(item)
        if len(text) + len(part) > LONGEST:
            left = len(judgements) - place
            return text + f"\n{left} more: see the HTML artefact.\n"
        text += part
    return text


def _details(item: Judgement) -> str:
    if item.difference is not None and item.difference.level is not None:
        return "\n" + difference_markdown(item.difference)
    if not item.findings:
        return ""
    lines = ["", f"### {plain_markdown(item.name)}", ""]
    lines += [f"- {plain_markdown(str(finding))}" for finding in item.findings[:_FINDINGS]]
    if len(item.findings) > _FINDINGS:
        lines.append(f"- {len(item.findings) - _FINDINGS} more")
    return "\n".join(lines) + "\n"


def _mark(item: Judgement) -> str:
    return {ExitCode.OK: "✅", ExitCode.GATE: "❌"}.get(ExitCode(item.status), "⚠️")
