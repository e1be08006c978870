"""What --help calls a default is one, every word that it offers is taken, and documents agree."""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from qcompiler.analysis.options import AnalysisOptions
from qcompiler.commands import VERBS
from qcompiler.config import COMPILE_SETTINGS
from qcompiler.errors import UsageError
from qcompiler.options import CompileOptions
from qcompiler.sensitivity.keep import SHARE
from qcompiler.sensitivity.run import measure_sensitivity
from qcompiler.torch_export import entry

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = CompileOptions()
MEASURED = inspect.signature(measure_sensitivity).parameters
OWN: dict[tuple[str, str], Any] = {
    ("analyze", "samples"): "1,8,32,128", ("analyze", "seeds"): AnalysisOptions({}).seeds,
    ("analyze", "methods"): ",".join(AnalysisOptions({}).methods), ("export", "opset"): entry.OPSET,
    ("export", "exporter"): "auto", ("export", "dynamic"): "auto", ("export", "tolerance"): "1e-4",
    ("export", "output"): "<factory>.onnx", ("compile", "output"): "<stem>.<target>", ("diff", "format"): "text",
    ("compile", "dump_dir"): "<output>.dumps", ("sensitivity", "by"): MEASURED["unit"].default,
    ("sensitivity", "metric"): MEASURED["metric"].default, ("sensitivity", "samples"): MEASURED["samples"].default,
    ("sensitivity", "share"): SHARE,
}  # fmt: skip
"""Defaults that no dataclass and no parser holds."""
STATED = (
    r"([\w<>.-]+) \(default[),:;]", r"; default ([\w<>.-]+)", r"\(default ([\w-]+)\)",
    r"\(([\d.e,-]+|w\d+a\d+|ort-cpu)[) ]", r"\(([a-z]+,[a-z,]+)\)",
)  # fmt: skip
IN_WORDS = frozenset({"that", "all"})
"""Beginnings of a default that is told in words."""


def stated() -> Iterator[tuple[str, argparse.Action, str]]:
    """Verb, argument, and the default that its help names."""
    for verb in VERBS:
        parser = importlib.import_module(f"qcompiler.commands.{verb}").parser()
        for action in parser._actions:
            for pattern in STATED:
                for word in re.findall(pattern, action.help or ""):
                    if word not in IN_WORDS:
                        yield verb, action, word


CASES = list(stated())


def test_the_patterns_find_defaults() -> None:
    found = {(verb, action.dest) for verb, action, _ in CASES}
    assert len(found) >= 25
    assert {("compile", name) for name in ("method", "equalize", "rotate", "zero_points", "search", "bits")} <= found


@pytest.mark.parametrize(("verb", "action", "word"), [
    pytest.param(*case, id=f"{case[0]}-{case[1].dest}") for case in CASES
])  # fmt: skip
def test_what_help_calls_the_default_is_one(verb: str, action: argparse.Action, word: str) -> None:
    known: Any = action.default
    if known in (argparse.SUPPRESS, None):
        known = OWN[verb, action.dest] if (verb, action.dest) in OWN else getattr(OPTIONS, action.dest)
    same = str(known) == word
    assert same or float(known) == float(word)


def test_every_word_of_an_option_is_taken() -> None:
    hints = get_type_hints(CompileOptions)
    seen = 0
    for item in fields(CompileOptions):
        if get_origin(hints[item.name]) is not Literal:
            continue
        for word in get_args(hints[item.name]):
            assert COMPILE_SETTINGS[item.name](word, item.name) == word
            seen += 1
    assert seen >= 20


def test_no_word_is_taken_that_the_option_lacks() -> None:
    hints = get_type_hints(CompileOptions)
    parser = importlib.import_module("qcompiler.commands.compile").parser()
    for action in parser._actions:
        if get_origin(hints.get(action.dest)) is Literal:
            for word in re.findall(r"[a-z_]+", action.help or ""):
                try:
                    COMPILE_SETTINGS[action.dest](word, action.dest)
                except UsageError:
                    continue
                assert word in get_args(hints[action.dest]), f"{action.dest}: {word}"


def test_documents_agree() -> None:
    """`--flag word` beside "the default" or "by default" in a sentence of README.md and docs/."""
    found = 0
    for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = file.read_text().replace("\n", " ")
        for pattern in (r"`--([a-z-]+) (\w+)`, the default", r"[Bb]y default \(`--([a-z-]+) (\w+)`\)"):
            for flag, word in re.findall(pattern, text):
                assert str(getattr(OPTIONS, flag.replace("-", "_"))) == word, f"{file.name}: --{flag}"
                found += 1
    assert found >= 7
