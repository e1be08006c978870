"""The result as Markdown for a pull request: the verdict, then a fold for each section that differs."""

from __future__ import annotations

from qcompiler.diffing.changes import Section
from qcompiler.diffing.difference import Difference

_SHOWN = 15


def difference_markdown(found: Difference) -> str:
    """Markdown with GitHub's folds; what decided the verdict is open."""
    mark = "❌" if found.fails else "✅"
    lines = [f"### {mark} {_code(found.second)}", "", f"**{found.verdict}**, fails on {found.fail_on.word}", ""]
    for section in found.sections:
        if section.changes or section.rows:
            lines += _section(section, found)
    quiet = [note for section in found.sections if not (section.changes or section.rows) for note in section.notes]
    lines += [f"- {plain_markdown(note)}" for note in quiet]
    return "\n".join(lines).rstrip() + "\n"


def _section(section: Section, found: Difference) -> list[str]:
    opened = any(change.level >= found.fail_on for change in section.changes)
    count = len(section.changes)
    summary = f"{section.name}: {count} change{'' if count == 1 else 's'}" if count else section.name
    lines = [f"<details{' open' if opened else ''}><summary>{summary}</summary>", ""]
    if section.rows:
        lines += ["| | before | after |", "| --- | ---: | ---: |"]
        lines += [f"| {plain_markdown(label)} | {before} | {after} |" for label, before, after in section.rows[:_SHOWN]]
        lines.append("")
    lines += [f"- `{change.level.word}` {plain_markdown(change.what)}" for change in section.changes[:_SHOWN]]
    if count > _SHOWN:
        lines.append(f"- {count - _SHOWN} more")
    lines += [f"- {plain_markdown(note)}" for note in section.notes]
    return [*lines, "", "</details>", ""]


def plain_markdown(text: str) -> str:
    """Names hold characters that Markdown reads as marks."""
    for mark in "\\`*_[]<>|#":
        text = text.replace(mark, f"\\{mark}" if mark not in "<>" else {"<": "&lt;", ">": "&gt;"}[mark])
    if text[:2] in ("+ ", "- "):  # a sign that it came or went, no list within the list
        text = f"\\{text}"
    return text.replace("-&gt;", "→").replace("@", "@\u200b")  # no mentions of users


def _code(text: str) -> str:
    return "`" + text.replace("`", "'") + "`"
