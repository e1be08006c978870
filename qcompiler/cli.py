"""The command `qcompile`: words to settings, a verb, an exit status. Imports nothing heavy before it is needed."""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from qcompiler.commands import VERBS
from qcompiler.commands.logs import append_log, check_log
from qcompiler.config import checked, nearest, read_environment, read_file
from qcompiler.errors import ExitCode, ModelError, QcompileError, UsageError
from qcompiler.interrupt import terminate_as_exception

_USERS_ERRNO = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOSPC, errno.EROFS, errno.ENOTDIR, errno.EISDIR,
                errno.ELOOP)  # fmt: skip
_LEADING = ("-v", "-vv", "-q", "--verbose", "--quiet", "--json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status of `errors.ExitCode`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for name in ("stdout", "stderr"):  # None where the caller closed it
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115  (open until the process ends)
    try:
        with terminate_as_exception():
            status = _dispatch(words)
            sys.stdout.flush()
            return status
    except QcompileError as error:
        return _say(f"qcompile: error: {error}", error.exit_code)
    except SystemExit as leaving:  # --help
        return int(leaving.code or 0)
    except KeyboardInterrupt:
        return _say("qcompile: interrupted", ExitCode.INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else the interpreter complains while it shuts down
        return ExitCode.OK


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        from qcompiler.commands.compile import parser

        print(parser().format_help())
        print("verbs: " + "\n       ".join(f"{name:<8} {line}" for name, line in VERBS.items()))
        return ExitCode.OK if words else ExitCode.USAGE
    if "--version" in words[:1]:
        from qcompiler.version import version

        print(f"qcompile {version()}")
        return ExitCode.OK
    verb, rest = _verb_of(words)
    return _run_verb(verb, rest)


def _verb_of(words: list[str]) -> tuple[str, list[str]]:
    """The verb and the words without it; a first word that is no verb must look like a file."""
    place = next((i for i, word in enumerate(words) if word not in _LEADING), len(words))
    first = words[place] if place < len(words) else ""
    if first in VERBS:
        return first, words[:place] + words[place + 1 :]
    bare = first.isidentifier() and not os.path.exists(first)  # noqa: PTH110  (a word, not yet a path)
    if bare:
        raise UsageError(f"{first!r} is neither a verb nor a file", hint=nearest(first, VERBS))
    return "compile", words


def _run_verb(verb: str, words: list[str]) -> int:
    from qcompiler.commands import habits

    notes: list[str] = []
    if verb == "compile":
        ours, notes = habits.rewrite(words)
        if habits.uses_habits(words):
            import shlex

            notes.append(f"in our words: qcompile {shlex.join(ours)}")
        words = ours
    module = import_module(f"qcompiler.commands.{verb}")
    args = module.parser().parse(words)
    own = getattr(module, "OWN", ())
    settings = _settings({key: value for key, value in vars(args).items() if key not in own}, notes)
    if not settings.get("quiet"):
        for note in notes:
            print(f"qcompile: note: {note}", file=sys.stderr)
    start = time.perf_counter()
    check_log(settings, vars(args))
    append_log(settings, f"qcompile {verb} {' '.join(words)}\n")
    model = "" if hasattr(args, "other") else str(getattr(args, "model", ""))
    status = _guarded(lambda: int(module.run(settings, args)), settings, model)
    silent = settings.get("quiet") or verb in ("targets", "passes", "show")
    if not silent and status in (ExitCode.OK, ExitCode.GATE):
        word = "PASSED" if status == ExitCode.OK else "FAILED"
        print(f"{word} qcompile {verb} {time.perf_counter() - start:.1f} s", file=sys.stderr)
    return status


def _settings(given: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    from qcompiler.shapes import join_profiles, split_shapes

    given = dict(given)
    limits = {word: given.pop(f"{word}_shapes", None) for word in ("min", "opt", "max")}
    config = given.pop("config", None) or os.environ.get("QCOMPILE_CONFIG")
    for other in ("model", "other", "name", "fail_on", "samples", "seeds", "tensors", "methods", "plots"):
        given.pop(other, None)
    flags = checked(given, lambda key: "--shape" if key == "shapes" else f"--{key.replace('_', '-')}")
    if any(limits.values()):
        least, likely, most = (
            {name: shapes[-1] for name, shapes in split_shapes([text] if text else [], f"--{word}-shapes").items()}
            for word, text in limits.items()
        )
        flags["shapes"] = {
            **flags.get("shapes", {}),
            **join_profiles(least, likely, most, "--min-shapes, --opt-shapes, --max-shapes"),
        }
    environment, unknown = read_environment(os.environ)
    notes.extend(f"the variable {name} means nothing here" for name in unknown)
    return {**(read_file(config) if config else {}), **environment, **flags}


def _guarded(run: Callable[[], int], settings: dict[str, Any], model: str = "") -> int:
    """Run; what is not an error of the user's is a bug: one line, the traceback with -v or in the log file.

    Args:
        model: The one model that the verb reads: what is wrong with a model is wrong with this one.
    """
    try:
        with _hushed(loud=bool(settings.get("verbose"))):
            return run()
    except QcompileError as error:
        if model and isinstance(error, ModelError) and not error.where:
            error = type(error)(error.message, where=model, hint=error.hint)
        append_log(settings, f"error: {error}\n")
        if settings.get("verbose", 0) > 1:
            traceback.print_exc()
        raise error from error.__cause__
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is None or error.errno not in _USERS_ERRNO:
            return _report_bug(error, settings)
        append_log(settings, traceback.format_exc())
        raise UsageError(error.strerror or str(error), where=str(error.filename)) from error
    except Exception as error:
        return _report_bug(error, settings)


def _report_bug(error: Exception, settings: dict[str, Any]) -> int:
    append_log(settings, traceback.format_exc())
    if settings.get("verbose"):
        traceback.print_exc()
    what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return _say(f"qcompile: internal error: {what} (please report; -v shows the traceback)", ExitCode.INTERNAL)


@contextmanager
def _hushed(*, loud: bool) -> Iterator[None]:
    """Keep the chatter of libraries (Python warnings, logging) off stderr, unless -v asks for it."""
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        if not loud:
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


def _say(line: str, status: int) -> int:
    print(line, file=sys.stderr)
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
