"""What to type to get this bundle again, to check it, to build it and to measure it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qcompiler.command_line import STAND_IN
from qcompiler.html_report.elements import Markup, command, folded, note, section, tag
from qcompiler.html_report.extras import Extras


def commands(document: Mapping[str, Any], extras: Extras) -> Markup:
    """One block for each purpose; all but the first are run inside the bundle's folder."""
    parts: list[Any] = []
    for title, line in _commands(document, extras):
        parts += [tag("h3", title), command(line)]
    scripts = [folded(name, tag("pre", tag("code", content))) for name, content in extras.scripts.items()]
    versions = ", ".join(f"{name} {version}" for name, version in extras.versions.items())
    stand_in = STAND_IN in document.get("command", "").split()
    return section(
        "commands", "Reproduce", *parts, *scripts,
        *([note(f"{STAND_IN} stands for samples that were handed over in memory.")] if stand_in else []),
        note("Of paths only the last part is kept. The same model, samples, options and versions give the same bytes "
             "on processors of one kind."),
        *([note(f"Made with {versions}.")] if versions else []),
    )  # fmt: skip


def _commands(document: Mapping[str, Any], extras: Extras) -> Iterator[tuple[str, str]]:
    source = document["source"] or "MODEL.onnx"
    yield "Compile", document.get("command", "")
    yield "Check, inside the bundle's folder", "python run_ort.py --check"
    for name in extras.scripts:
        yield f"Build on the device with trtexec ({name} is below)", f"./{name}"
    yield "Measure on this machine", f"qcompile bench . --against ../{source}"
    yield "Compare with another compile", "qcompile diff . ../OTHER"
