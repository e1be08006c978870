"""The command `python -m models`: exit statuses and one-line errors as qcompile's."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import models
from models.assets import cache_folder
from models.zoo import RealModel
from qcompiler.commands.arguments import Parser
from qcompiler.config import nearest
from qcompiler.errors import ExitCode, QcompileError, UsageError

VERBS = {
    "list": "the entries: family, parameters, size, licence, cached or not, float score",
    "get": "fetch entries into the cache folder: model, calibration and test data, card",
    "score": "task score with its 95% interval, and fidelity to float of other files",
    "train": "train an entry again",
    "scores": "all entries float, compiled and under onnxruntime's quantizers: models/SCORES.md",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit status of `qcompiler.errors.ExitCode`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _hushed():
            status = _dispatch(words)
        sys.stdout.flush()
        return status
    except QcompileError as error:
        return _say(f"models: error: {error}", error.exit_code)
    except SystemExit as leaving:  # --help
        return int(leaving.code or 0)
    except KeyboardInterrupt:
        return _say("models: interrupted", ExitCode.INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else the interpreter complains while it shuts down
        return ExitCode.OK
    except ModuleNotFoundError as error:
        return _say(f"models: error: {error.name} is not installed (pip install '.[models]')", ExitCode.USAGE)
    except OSError as error:
        return _say(f"models: error: {error.filename}: {error.strerror}", ExitCode.USAGE)
    except Exception as error:
        if os.environ.get("MODELS_TRACEBACK"):
            traceback.print_exc()
        what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return _say(f"models: internal error: {what} (MODELS_TRACEBACK=1 shows the traceback)", ExitCode.INTERNAL)


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep the chatter of torch's exporter and of other libraries off stderr."""
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print("usage: python -m models VERB ...\n\n" + "\n".join(f"  {name:<7} {line}" for name, line in VERBS.items()))
        return ExitCode.OK if words else ExitCode.USAGE
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        raise UsageError(f"unknown verb {verb!r}", hint=nearest(verb, VERBS))
    runs: dict[str, Callable[[list[str]], int]] = {
        "list": _list, "get": _get, "score": _score, "train": _train, "scores": _scores,
    }  # fmt: skip
    return runs[verb](rest)


def entry(name: str) -> RealModel:
    """The entry called `name`; UsageError with the nearest names otherwise."""
    if name not in models.TABLE:
        raise UsageError(f"unknown model {name!r}", hint=nearest(name, models.TABLE))
    return models.load(name)


def _parser(verb: str) -> Parser:
    return Parser(f"python -m models {verb}", VERBS[verb])


def _list(words: list[str]) -> int:
    from models.listing import rows, table

    parser = _parser("list")
    parser.add_argument("--json", action="store_true", help="as JSON")
    args = parser.parse(words)
    found = rows()
    print(json.dumps(found, indent=1) if hasattr(args, "json") else table(found))
    return ExitCode.OK


def _get(words: list[str]) -> int:
    from models.get import get

    parser = _parser("get")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--all", action="store_true", help="every entry")
    parser.add_argument("--force", action="store_true", help="write data and card anew")
    parser.add_argument("--no-score", action="store_true", help="do not measure the float model for the card")
    args = parser.parse(words)
    names = list(models.TABLE) if hasattr(args, "all") else list(getattr(args, "names", []))
    if not names:
        raise UsageError("no model is named", hint=f"known: {', '.join(models.TABLE)}, or --all")
    chosen = [entry(name) for name in names]
    failed: QcompileError | None = None
    for model in chosen:
        try:
            print(get(model, force=hasattr(args, "force"), with_score=not hasattr(args, "no_score")))
        except QcompileError as error:
            if len(chosen) == 1:
                raise
            _say(f"models: error: {model.name}: {error}", 0)
            failed = failed or error
    return failed.exit_code if failed else ExitCode.OK


def _score(words: list[str]) -> int:
    from models import recorded
    from models.scoring import data_kind, score, text, whole_test

    parser = _parser("score")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument(
        "--onnx", action="append", type=Path, metavar="FILE", default=[],
        help="an ONNX file of the same interface, or a bundle folder; may be given again",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a fraction of the test set")
    parser.add_argument("--full", action="store_true", help="the whole test set, for entries that take a part of it")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--record", action="store_true", help="keep the float score in models/recorded.json")
    args = parser.parse(words)
    if hasattr(args, "record") and hasattr(args, "quick"):
        raise UsageError("--record does not keep scores of the short form", hint="leave out --quick")
    if hasattr(args, "quick") and hasattr(args, "full"):
        raise UsageError("--quick and --full at once")
    model, data = entry(args.name), data_kind()
    if hasattr(args, "full"):
        model, data = whole_test(model), f"{data}, whole test set"
    found = score(model, args.onnx, quick=hasattr(args, "quick"))
    if hasattr(args, "json"):
        document = {"model": model.name, "data": data, "quick": hasattr(args, "quick")}
        print(json.dumps(document | {"scores": [row.document() for row in found]}, indent=1))
    else:
        print(text(model.name, found))
    if hasattr(args, "record"):
        recorded.record(model.name, data, found[0].measures)
    errors = [row.error for row in found if row.error]
    if errors:
        raise errors[0]
    return ExitCode.OK


def _train(words: list[str]) -> int:
    if not words or words[0].startswith("-"):
        raise UsageError("no model is named", hint="python -m models train NAME [--smoke]")
    model = entry(words[0])
    if model.training is None:
        raise UsageError("nothing to train, its weights are pretrained", where=model.name)
    from models.training.run import parse

    script, options = import_module(model.training), words[1:]
    if not any(word.partition("=")[0] in ("--out", "-h", "--help") for word in options):
        options = [*options, "--out", str(cache_folder() / model.name / "training")]
    script.run(parse(script.__doc__, options))
    return ExitCode.OK


def _scores(words: list[str]) -> int:
    from models.scores import add_arguments, run

    parser = _parser("scores")
    add_arguments(parser)
    return run(parser.parse(words))


def _say(line: str, status: int) -> int:
    print(line, file=sys.stderr)
    return int(status)
