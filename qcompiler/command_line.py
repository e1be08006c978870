"""The command that asks for what a compile was asked for, for those who want to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from qcompiler.options import CompileOptions

STAND_IN = "DATA"
"""For calibration data that was no path."""

_LEFT_OUT = frozenset({"target", "percentile", "dump_after", "dump_dir", "threads"})
_SWITCHES = {"portable": "--portable", "strict": "--strict"}


def command_line(source: str, options: CompileOptions) -> str:
    """`qcompile MODEL --target T ...` with what differs from the defaults; of paths the last part.

    Number of threads and dumps are left out: they change nothing of the bundle.
    """
    words = ["qcompile", _last(source) or "MODEL.onnx", "--target", options.target]
    defaults = CompileOptions()
    for item in fields(options):
        value = getattr(options, item.name)
        if item.name not in _LEFT_OUT and value != getattr(defaults, item.name):
            words += _words(item.name, value, options)
    return shlex.join(words)


def _words(name: str, value: Any, options: CompileOptions) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if name == "verify":
        return ["--no-verify"]
    if name in _SWITCHES:
        return [_SWITCHES[name]]
    if name in ("calib", "validate"):
        return [flag, _last(value) if isinstance(value, (str, Path)) else STAND_IN]
    if name == "method" and value == "percentile":
        return [flag, f"percentile:{options.percentile:g}"]
    if isinstance(value, Mapping):
        return [word for one, shapes in sorted(value.items()) for word in ("--shape", _profile(one, shapes))]
    if isinstance(value, (tuple, list)):
        return [f"{flag}={one}" for one in value]  # joined, since "-pass" alone would be an option
    return [flag, _last(value) if isinstance(value, Path) else str(value)]


def _profile(name: str, shapes: tuple[tuple[int, ...], ...]) -> str:
    texts = ["x".join(map(str, shape)) for shape in shapes]
    return f"{name}:{texts[0] if len(set(texts)) == 1 else ','.join(texts)}"


def _last(path: Any) -> str:
    return str(path).replace("\\", "/").rstrip("/").rpartition("/")[2]
