"""Settings from flags, environment and TOML file, checked and merged: flag > QCOMPILE_* > file > target default.

Keys are the fields of `CompileOptions` (and a few of the command line's own); flags, TOML keys and variables spell the
same names with their own separators: `--min-sqnr`, `min-sqnr`, `QCOMPILE_MIN_SQNR`. This module imports nothing heavy.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompiler.errors import UsageError
from qcompiler.precision import parse_precision
from qcompiler.shapes import parse_shapes

if TYPE_CHECKING:
    from qcompiler.options import CompileOptions

ENVIRONMENT = "QCOMPILE_"
ROTATIONS = ("residual", "heads", "down", "gated", "scores")
METHODS = ("auto", "minmax", "percentile", "mse", "entropy")
Parse = Callable[[Any, str], Any]


def _text(value: Any, where: str) -> str:
    if not isinstance(value, (str, Path)) or not str(value):
        raise UsageError(f"expected text, got {value!r}", where=where)
    return str(value)


def _path(value: Any, where: str) -> Path:
    return Path(_text(value, where))


def _number(kind: type, low: float | None = None, high: float | None = None) -> Parse:
    def parse(value: Any, where: str) -> Any:
        try:
            if isinstance(value, bool):
                raise ValueError
            number = kind(value)
            if number != number or (kind is int and float(value) != number):
                raise ValueError
        except (TypeError, ValueError):
            raise UsageError(
                f"expected {'a whole number' if kind is int else 'a number'}, got {value!r}", where=where
            ) from None
        if (low is not None and number < low) or (high is not None and number > high):
            bounds = f"at least {low}" if high is None else f"between {low} and {high}"
            raise UsageError(f"{value} is out of range", where=where, hint=f"it must be {bounds}")
        return number

    return parse


def _flag(value: Any, where: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    found = value if isinstance(value, bool) else words.get(str(value).strip().lower())
    if found is None:
        raise UsageError(f"expected true or false, got {value!r}", where=where)
    return found


def _choice(*words: str) -> Parse:
    def parse(value: Any, where: str) -> str:
        if value not in words:
            raise UsageError(f"unknown value {value!r}", where=where, hint=f"one of {', '.join(words)}")
        return str(value)

    return parse


def _texts(separator: str) -> Parse:
    def parse(value: Any, where: str) -> tuple[str, ...]:
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
            raise UsageError(f"expected a list of texts, got {value!r}", where=where)
        parts = [part.strip() for item in items for part in (item.split(separator) if separator else [item])]
        return tuple(part for part in parts if part)

    return parse


def _patterns(value: Any, where: str) -> tuple[str, ...]:
    patterns: tuple[str, ...] = _texts("")(value, where)
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise UsageError(f"{pattern!r} is not a regular expression: {error}", where=where) from None
    return patterns


def _pass_edits(value: Any, where: str) -> tuple[str, ...]:
    edits: tuple[str, ...] = _texts(",")(value, where)
    for edit in edits:
        if edit[0] not in "+-" or len(edit) < 2:
            raise UsageError(f"{edit!r} neither adds nor removes", where=where, hint=f"write +{edit} or -{edit}")
    return edits


def _method(value: Any, where: str) -> str:
    word, colon, number = _text(value, where).partition(":")
    if word not in METHODS:
        near = difflib.get_close_matches(word, METHODS, n=1, cutoff=0.4)
        raise UsageError(f"unknown method {word!r}", where=where, hint=f"try {', '.join(near or METHODS)}")
    if colon and word != "percentile":
        raise UsageError(f"{word} takes no number", where=where, hint=f"write {word}")
    if colon:
        _number(float, 50.0, 100.0)(number, where)
    return str(value)


def _rotations(value: Any, where: str) -> str:
    """One of recipe, none, auto, all, or kinds separated by commas."""
    words = [word.strip() for word in _text(value, where).split(",")]
    known = ROTATIONS if len(words) > 1 else ("recipe", "none", "auto", "all", *ROTATIONS)
    for word in words:
        if word not in known:
            raise UsageError(f"unknown value {word!r}", where=where, hint=f"one of {', '.join(known)}")
    return ",".join(words)


def _bits(value: Any, where: str) -> str:
    return str(parse_precision(value, where))


def _raw(value: Any, where: str) -> Any:
    return value


COMPILE_SETTINGS: Mapping[str, Parse] = {
    "target": _text, "calib": _raw, "validate": _raw, "preprocess": _text, "method": _method,
    "percentile": _number(float, 50.0, 100.0), "carrier": _choice("fp32", "fp16"), "portable": _flag,
    "include": _patterns, "exclude": _patterns, "exclude_op": _texts(","), "plan": _path,
    "bits": _bits, "bits_file": _path,
    "softmax": _choice("uniform", "tan", "log2", "log_sqrt2", "auto"), "softmax_bits": _number(int, 3, 8),
    "softmax_form": _choice("integer", "float"),
    "equalize": _choice("recipe", "none", "auto", "os_plus", "smooth", "outlier_tune", "repq", "bounded_fold"),
    "bias_correction": _choice("none", "auto"), "zero_points": _choice("none", "auto"),
    "split_units": _choice("none", "auto"),
    "rounding": _choice("nearest", "gptq", "auto"),
    "rotate": _rotations, "states": _choice("float", "int8"),
    "search": _choice("fast", "full"), "goal_sqnr": _number(float), "float_share": _number(float, 0.0, 1.0),
    "min_sqnr": _number(float), "min_cosine": _number(float, -1.0, 1.0), "max_samples": _number(int, 1),
    "shapes": parse_shapes, "passes": _pass_edits, "dump_after": _texts(","), "dump_dir": _path,
    "build_check": _choice("auto", "on", "off"), "verify": _flag, "strict": _flag,
    "format": _choice("onnx", "ort"),
    "seed": _number(int, 0, 2**63 - 1),
    "threads": _number(int, 0, 4096),
}  # fmt: skip
"""Fields of CompileOptions with what reads them."""

COMMAND_SETTINGS: Mapping[str, Parse] = {
    "output": _text, "force": _flag, "json": _flag, "quiet": _flag, "verbose": _number(int, 0, 3), "log_file": _text,
    "dry_run": _flag,
}  # fmt: skip
"""Settings of the command line itself."""

SETTINGS = {**COMPILE_SETTINGS, **COMMAND_SETTINGS}
_OTHER_SPELLINGS = {"shape": "shapes"}
_PATHS = frozenset({"calib", "validate", "plan", "bits_file", "dump_dir", "output", "log_file"})


def read_file(path: str | Path) -> dict[str, Any]:
    """Settings of a TOML file; relative paths in it count from its own folder.

    Raises:
        UsageError: It can't be read, isn't TOML, or has an unknown key or a bad value.
    """
    path = Path(path)
    try:
        document = _toml(path.read_bytes().decode())
    except OSError as error:
        raise UsageError(f"cannot read the settings: {error.strerror}", where=str(path)) from error
    except ValueError as error:
        raise UsageError(f"not TOML: {error}", where=str(path)) from error
    settings = checked(document, lambda key: f"{path}: {key}")
    for key in _PATHS & settings.keys():
        settings[key] = _from_folder(settings[key], path.parent)
    return settings


def read_environment(environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Settings of the QCOMPILE_* variables (lists are separated by ";"), and the names of those that mean nothing."""
    settings, unknown_names = {}, []
    for name in sorted(environ):
        key = name[len(ENVIRONMENT) :].lower()
        if not name.startswith(ENVIRONMENT) or key in ("config", "cache", "data", "engines"):  # of others
            continue
        key = _OTHER_SPELLINGS.get(key, key)
        if key not in SETTINGS:
            unknown_names.append(name)
        elif key in ("include", "exclude", "exclude_op", "passes", "dump_after"):
            settings[key] = SETTINGS[key](environ[name].split(";"), name)
        else:
            settings[key] = SETTINGS[key](environ[name], name)
    return settings, unknown_names


def checked(raw: Mapping[str, Any], where: Callable[[str], str]) -> dict[str, Any]:
    """Values parsed and checked; keys may be written with hyphens.

    Raises:
        UsageError: A key that doesn't exist, with the nearest; a value of the wrong kind.
    """
    settings = {}
    for spelled, value in raw.items():
        key = spelled.replace("-", "_")
        if key == "no_verify":
            key, value = "verify", not _flag(value, where(spelled))
        key = _OTHER_SPELLINGS.get(key, key)
        if key not in SETTINGS:
            known = [name.replace("_", "-") for name in SETTINGS]
            raise UsageError(
                f"unknown setting {spelled!r}",
                where=where(spelled).rpartition(": ")[0] or None,
                hint=nearest(spelled, known),
            )
        settings[key] = SETTINGS[key](value, where(spelled))
    return settings


def count(value: Any, where: str) -> int:
    """A whole number of at least 0, for options that are no settings.

    Raises:
        UsageError: It is none.
    """
    return int(_number(int, 0, 4096)(value, where))


def nearest(word: str, known: Iterable[str], count: int = 3) -> str:
    """The hint for a misspelt word."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=count, cutoff=0.5) or names
    return f"try {', '.join(near)}"


def to_options(settings: Mapping[str, Any]) -> CompileOptions:
    """The options that these settings ask for; settings of the command line itself are passed over.

    Raises:
        UsageError: A bound on what is not verified.
    """
    from qcompiler.options import CompileOptions

    chosen = {key: value for key, value in settings.items() if key in COMPILE_SETTINGS}
    method, colon, number = chosen.get("method", "").partition(":")
    if colon:
        chosen.update(method=method, percentile=float(number))
    bound = next((key for key in ("min_sqnr", "min_cosine") if chosen.get(key) is not None), None)
    if bound and not chosen.get("verify", True):
        raise UsageError("needs the verification that --no-verify skips", where=f"--{bound.replace('_', '-')}")
    return CompileOptions(**chosen)


def _from_folder(value: Any, folder: Path) -> Any:
    looks_like_factory = isinstance(value, str) and re.fullmatch(r"[\w.]+:[\w.]+", value)
    return value if looks_like_factory or not isinstance(value, (str, Path)) else type(value)(folder / value)


def _toml(text: str) -> dict[str, Any]:
    module = "tomllib" if sys.version_info >= (3, 11) else "tomli"
    found: dict[str, Any] = import_module(module).loads(text)
    return found
