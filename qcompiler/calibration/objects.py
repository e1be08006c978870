"""Calibration data from Python: dicts of arrays, iterables, factories, onnxruntime's CalibrationDataReader."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from qcompiler.calibration.feeds import Record, record_of
from qcompiler.calibration.inputs import InputSpec
from qcompiler.errors import CalibrationError

Opener = Callable[[], Iterator[Record]]


def open_object(data: Any, where: str, inputs: Sequence[InputSpec]) -> tuple[str, Opener, bool]:
    """Kind, a function that starts a pass over the records, and whether it can be called again.

    Raises:
        CalibrationError: Nothing that gives feeds.
    """
    if isinstance(data, Mapping):
        return "arrays", lambda: iter([record_of(where, data, many=True)]), True
    if isinstance(data, type):
        return _open_factory(data, where, inputs)
    if hasattr(data, "get_next"):
        return "ort-reader", lambda: _from_reader(data, where), hasattr(data, "rewind")
    if hasattr(data, "shape") and hasattr(data, "dtype") and len(inputs) == 1:
        return "arrays", lambda: iter([record_of(where, {inputs[0].name: data}, many=True)]), True
    if isinstance(data, Iterable) and not isinstance(data, (str, bytes)):
        return "iterable", lambda: _from_iterable(data, where), not isinstance(data, Iterator)
    if callable(data):
        return _open_factory(data, where, inputs)
    raise CalibrationError(
        f"{type(data).__name__} gives no calibration data",
        where=where,
        hint="give an iterable of dicts of input name to array",
    )


def load_factory(reference: str) -> Any:
    """The object that "module:attribute" names; modules of the current directory can be imported.

    Raises:
        CalibrationError: There is no such module or attribute, or its import fails.
    """
    module_name, _, attribute = reference.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found: Any = import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        hint = "run from the folder of that file, or install it"
        raise CalibrationError(f"no module {error.name!r}", where=reference, hint=hint) from error
    except AttributeError as error:
        raise CalibrationError(
            f"{module_name!r} has no attribute {attribute!r}", where=reference, hint="check the spelling"
        ) from error
    except Exception as error:
        raise _raised("its import", error, reference) from error
    finally:
        sys.path.remove(here)
    return found


def _open_factory(factory: Callable[[], Any], where: str, inputs: Sequence[InputSpec]) -> tuple[str, Opener, bool]:
    """The factory is called at once, so that its errors come early, and again for each further pass."""
    kind, first, _ = open_object(_call(factory, where), where, inputs)
    pending = [first]

    def start() -> Iterator[Record]:
        return (pending.pop() if pending else open_object(_call(factory, where), where, inputs)[1])()

    return kind, start, True


def _call(factory: Callable[[], Any], where: str) -> Any:
    try:
        return factory()
    except Exception as error:
        raise _raised("the factory", error, where) from error


def _from_iterable(data: Iterable[Any], where: str) -> Iterator[Record]:
    try:
        for index, feed in enumerate(data):
            yield record_of(f"{where}: batch {index}", feed)
    except CalibrationError:
        raise
    except Exception as error:
        raise _raised("the iterable", error, where) from error


def _from_reader(reader: Any, where: str) -> Iterator[Record]:
    if hasattr(reader, "rewind"):
        reader.rewind()
    index = 0
    while True:
        try:
            feed = reader.get_next()
        except Exception as error:
            raise _raised("get_next()", error, where) from error
        if not feed:
            return
        yield record_of(f"{where}: batch {index}", feed)
        index += 1


def _raised(what: str, error: Exception, where: str) -> CalibrationError:
    first = (str(error).splitlines() or [""])[0]
    return CalibrationError(
        f"{what} raised {type(error).__name__}: {first}", where=where, hint="fix it, then run again"
    )
