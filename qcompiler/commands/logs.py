"""Diagnostics and tracebacks: to stderr as far as asked for, and all of them to --log-file."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qcompiler.diagnostics import Diagnostic, Severity
from qcompiler.errors import UsageError


def log_diagnostics(diagnostics: Iterable[Diagnostic], settings: Mapping[str, Any]) -> None:
    """Everything to the log file; to stderr errors always, warnings with -v, information with -vv."""
    found = list(diagnostics)
    verbose = 0 if settings.get("quiet") else int(settings.get("verbose", 0))
    heard = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}
    for item in found:
        if heard[item.severity] <= verbose:
            print(f"qcompile: {item}", file=sys.stderr)
    append_log(settings, "".join(f"{item}\n" for item in found))


def check_log(settings: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """That the log does not go into what the command reads or writes.

    Args:
        given: The command's arguments by name.

    Raises:
        UsageError: It is one of them.
    """
    if not settings.get("log_file"):
        return
    log = Path(settings["log_file"]).resolve()
    values = [value for name, value in given.items() if name != "log_file"]
    words = [word for value in values for word in (value if isinstance(value, list) else [value])]
    if any(isinstance(word, str) and word and Path(word).resolve() == log for word in words):
        raise UsageError("is another file of this command", where="--log-file", hint="name a file of its own")


def append_log(settings: Mapping[str, Any], text: str) -> None:
    """Append to the log file, where one was asked for.

    Raises:
        UsageError: It can't be written.
    """
    if not settings.get("log_file"):
        return
    try:
        with Path(settings["log_file"]).open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"cannot write the log: {error.strerror}", where=str(settings["log_file"])) from error
