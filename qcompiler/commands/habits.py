"""Options that people type out of habit from other tools, rewritten to ours before parsing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qcompiler.errors import UsageError

ALIASES = {
    "--onnx_path": "", "--output_path": "--output", "--calibration_data": "--calib",
    "--calibration_data_path": "--calib", "--calibration_method": "--method",
    "--nodes_to_exclude": "--exclude", "--op_types_to_exclude": "--exclude-op",
    "--minShapes": "--min-shapes", "--optShapes": "--opt-shapes", "--maxShapes": "--max-shapes",
}  # fmt: skip
"""Their word to ours; empty for the positional MODEL."""

_DROPPED = {"--quantize_mode", "--opset"}
_DROPPED_FLAGS = {"--per_channel": "weights are always per channel"}
_LISTS = {"--nodes_to_exclude", "--op_types_to_exclude"}
_METHODS = {"max": "minmax", "min_max": "minmax", "MinMax": "minmax"}


def rewrite(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our words for `arguments`, and notes on what has no effect; both are as given where no habit shows.

    Raises:
        UsageError: `--quantize_mode` with something else than int8, an alias without its value.
    """
    words: list[str] = []
    notes: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        if option in _DROPPED_FLAGS:
            notes.append(f"{option} has no effect: {_DROPPED_FLAGS[option]}")
        elif option in _DROPPED or option in ALIASES:
            values = [value] if equals else list(_values(option, rest))
            if not values:
                raise UsageError("expected one argument", where=option)
            if option in _DROPPED:
                notes.extend(_note(option, values[0]))
            for item in values if option in ALIASES else ():
                ours = ALIASES[option]
                item = _METHODS.get(item, item) if ours == "--method" else item
                words.extend([ours, item] if ours else [item])
        elif word == "--passes" and rest and rest[0][:1] in "+-":
            words.append(f"--passes={rest.pop(0)}")  # else argparse takes "-name" for an option
        else:
            words.append(word)
    return words, notes


def uses_habits(arguments: Sequence[str]) -> bool:
    """Whether any word is another tool's."""
    return any(word.partition("=")[0] in {*ALIASES, *_DROPPED, *_DROPPED_FLAGS} for word in arguments)


def _values(option: str, rest: list[str]) -> Iterator[str]:
    while rest and not rest[0].startswith("-") and not (option in _LISTS and rest[0].endswith(".onnx")):
        yield rest.pop(0)
        if option not in _LISTS:
            return


def _note(option: str, value: str) -> Iterator[str]:
    if option == "--opset":
        yield "--opset has no effect: the target sets the opset"
    elif value != "int8":
        raise UsageError(f"{value!r} is not supported", where=option, hint="int8 is")
