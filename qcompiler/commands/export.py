"""`qcompile export module:factory -o FILE`: a torch module to an ONNX file that was compared with torch."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qcompiler.commands.arguments import Parser, add_shared
from qcompiler.errors import ExitCode, QcompileError, UsageError

OWN = ("inputs", "dynamic", "opset", "exporter", "tolerance", "no_check")
"""Flags that are no settings: neither variables nor configuration files know them."""

EPILOG = """\
the factory returns a torch module, or (module, example inputs), or a mapping with the keys module, example_inputs and
keyword arguments of qcompiler.export; it may also be the module itself

exit status: 0 ok, 1 the graph differs from torch (nothing is written), 2 usage, 3 no exporter takes the module"""


def parser() -> Parser:
    """Arguments of `export`."""
    made = Parser("qcompile export", "Export a torch module to ONNX, compared with torch at several sizes.", EPILOG)
    made.add_argument("model", metavar="MODULE:FACTORY", help="what to call; modules of this folder can be imported")
    made.add_argument("-o", "--output", metavar="FILE", help="the .onnx file; default <factory>.onnx")
    made.add_argument("--force", action="store_true", help="replace an existing file")
    made.add_argument(
        "--inputs",
        metavar="NAME:2x16[:int64],...",
        action="append",
        help="names, shapes and types of the inputs; repeatable",
    )
    made.add_argument(
        "--dynamic",
        metavar="NAME:AXIS=SIZE,...",
        action="append",
        help="axes that vary, with names; or auto (default), batch, none; repeatable",
    )
    made.add_argument("--opset", metavar="N", help="13 or newer; default 18")
    made.add_argument("--exporter", metavar="E", help="auto (default: dynamo, then torchscript), dynamo or torchscript")
    made.add_argument("--tolerance", metavar="X", help="largest difference from torch, relative to its outputs (1e-4)")
    made.add_argument("--no-check", action="store_true", help="skip the comparison with torch")
    made.add_argument("--seed", metavar="N", help="seed of the inputs that are made up (0)")
    add_shared(made)
    return made


def run(settings: Mapping[str, Any], args: argparse.Namespace) -> int:
    """Export; returns OK.

    Raises:
        QcompileError: As `qcompiler.export`; or the factory is missing or fails.
    """
    from qcompiler.torch_export.entry import export
    from qcompiler.torch_export.requirement import require_torch

    require_torch()
    module, inputs, options = load(args.model)
    given = vars(args)
    if "inputs" in given:
        from qcompiler.torch_export.examples import parse_shapes

        inputs = parse_shapes(given["inputs"], "--inputs")
    if inputs is None:
        raise UsageError("no example inputs", where=args.model,
                         hint="give --inputs NAME:2x16:int64, or return (module, example inputs)")  # fmt: skip
    if "dynamic" in given:
        options["dynamic"] = parse_dynamic(given["dynamic"])
    options |= {key: kind(given[key], key) for key, kind in _KINDS.items() if key in given}
    options |= {key: settings[key] for key in ("seed", "force") if key in settings}
    if given.get("no_check"):
        options["check"] = False
    output = settings.get("output") or f"{args.model.rpartition(':')[2].rpartition('.')[2]}.onnx"
    result = export(module, inputs, Path(output), **options)
    if settings.get("json"):
        print(json.dumps(result.to_json(), indent=1))
    elif not settings.get("quiet"):
        print(result)
    return ExitCode.OK


def load(reference: str) -> tuple[Any, Any, dict[str, Any]]:
    """Module, example inputs (None where the factory gives none) and keyword arguments from "module:factory".

    Raises:
        UsageError: There is no such factory, it fails, or returns something else.
    """
    from torch import nn

    from qcompiler.calibration.objects import load_factory

    if not all(reference.partition(":")[::2]):
        raise UsageError(f"{reference!r} names no factory", hint="write module:factory, such as my_model:build")
    try:
        found = load_factory(reference)
    except QcompileError as error:  # it speaks of calibration data by its exit status
        raise UsageError(error.message, where=error.where, hint=error.hint) from error
    made = found if isinstance(found, nn.Module) else _called(found, reference)
    if isinstance(made, tuple) and len(made) == 2:
        return _as_module(made[0], reference), made[1], {}
    if isinstance(made, Mapping):
        return _from_mapping(dict(made), reference)
    return _as_module(made, reference), None, {}


def parse_dynamic(texts: Sequence[str]) -> Any:
    """One of the words, or `name:axis=size` parts as {name: {axis: size}}; names may hold colons.

    Raises:
        UsageError: Neither.
    """
    words = {"auto": "auto", "batch": "batch", "none": None}
    if len(texts) == 1 and texts[0] in words:
        return words[texts[0]]
    axes: dict[str, dict[int, str]] = {}
    for part in (part.strip() for text in texts for part in text.split(",")):
        place, equals, size = part.partition("=")
        name, colon, axis = place.rpartition(":")
        if not (equals and colon and name and size) or not axis.lstrip("-").isdigit():
            raise UsageError(
                f"{part!r} is no axis", where="--dynamic", hint="write NAME:AXIS=SIZE or auto, batch, none"
            )
        axes.setdefault(name, {})[int(axis)] = size
    return axes


def _called(factory: Any, reference: str) -> Any:
    if not callable(factory):
        raise UsageError(f"a {type(factory).__name__} is no factory", where=reference, hint="name a function")
    try:
        return factory()
    except QcompileError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        message = f"the factory raised {type(error).__name__}: {first}"
        raise UsageError(message, where=reference, hint="it is called without arguments") from error


def _from_mapping(made: dict[str, Any], reference: str) -> tuple[Any, Any, dict[str, Any]]:
    import inspect

    from qcompiler.config import nearest
    from qcompiler.torch_export.entry import export

    if "module" not in made:
        raise UsageError("the mapping has no key 'module'", where=reference)
    known = inspect.signature(export).parameters.keys() - {"output"}
    unknown = next((key for key in made if key not in known), None)
    if unknown is not None:
        raise UsageError(f"unknown key {unknown!r}", where=reference, hint=nearest(str(unknown), known))
    return _as_module(made.pop("module"), reference), made.pop("example_inputs", None), made


def _as_module(made: Any, reference: str) -> Any:
    from torch import nn

    if not isinstance(made, nn.Module):
        what = f"the class {made.__name__}" if isinstance(made, type) else f"a {type(made).__name__}"
        message = f"the factory returned {what}, not a torch module"
        raise UsageError(message, where=reference, hint="return an instance of torch.nn.Module")
    return made


def _number(kind: type) -> Any:
    def parse(text: str, key: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise UsageError(f"expected a number, got {text!r}", where=f"--{key}") from None

    return parse


_KINDS = {"opset": _number(int), "tolerance": _number(float), "exporter": lambda text, _: text}
