"""The few most sensitive layers as a file that a compile takes: --bits-file for wider ones, --config for float ones."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from qcompiler.errors import UsageError
from qcompiler.options import CompileOptions
from qcompiler.precision import read_bits_file
from qcompiler.sensitivity.result import Layer, LayerSensitivity

SHARE = 0.1
"""Of the multiply-adds, unless asked otherwise; as `--float-share` of a compile."""
FLOAT = "float"
COMPILED = (
    "target", "bits_file", "include", "exclude", "exclude_op", "method", "equalize", "rotate", "rounding", "softmax",
    "softmax_bits", "softmax_form", "zero_points", "search", "goal_sqnr", "float_share", "passes",
)  # fmt: skip
"""Options that say what is quantized and how."""


def keep_layers(layers: Sequence[Layer], share: float | None, count: int | None) -> tuple[Layer, ...]:
    """The most sensitive first, up to `count` layers and `share` of the multiply-adds; too large ones are passed over.

    Args:
        layers: The most sensitive first.
        share: None for no bound where there is a count, else `SHARE`.

    Raises:
        UsageError: No layer fits.
    """
    bound = share if share is not None else (SHARE if count is None else 1.0)
    budget = bound * sum(layer.multiply_adds for layer in layers)
    kept: list[Layer] = []
    for layer in layers:
        if len(kept) == count:
            break
        if layer.multiply_adds <= budget:
            kept.append(layer)
            budget -= layer.multiply_adds
    if not kept:
        least = min(layer.share for layer in layers)
        raise UsageError(f"no layer is as small as {bound:g} of the multiply-adds", where="--share",
                         hint=f"the smallest is {least:.2g}")  # fmt: skip
    return tuple(kept)


def file_text(
    found: LayerSensitivity, options: CompileOptions, kept: Sequence[Layer], keep: str, *, json_form: bool
) -> str:
    """Of a bits file (node pattern to precision), or of a config with `exclude` where `keep` is "float".

    Args:
        options: That layers were measured with. A compile takes one file of each kind: what theirs says comes first.
        keep: "float", or the bits that both weights and activations of these layers keep, as "w8a8".
        json_form: A bits file may be JSON; a config is TOML.
    """
    patterns = [f"^{re.escape(name)}$" for layer in kept for name in layer.nodes]
    given = {} if options.bits_file is None else read_bits_file(options.bits_file)
    before = {pattern: str(precision) for pattern, precision in given.items() if pattern not in patterns}
    if keep != FLOAT and json_form:
        return json.dumps(before | dict.fromkeys(patterns, keep), indent=1) + "\n"
    share = sum(layer.share for layer in kept)
    head = (
        f"# qcompile sensitivity: the {len(kept)} layers of {_plain(found.model) or 'the model'} that lose most at "
        f"{found.bits} ({share:.1%} of the multiply-adds)\n"
    )
    if keep == FLOAT:
        excluded = dict.fromkeys([*options.exclude, *patterns])
        return head + "exclude = [\n" + "".join(f"  {json.dumps(item)},\n" for item in excluded) + "]\n"
    chosen = before | dict.fromkeys(patterns, keep)
    return head + "".join(f"{json.dumps(item)} = {json.dumps(word)}\n" for item, word in chosen.items())


def compile_line(found: LayerSensitivity, options: CompileOptions, takes: str, file: str) -> str:
    """The compile that takes the written file, with the options that layers were measured with.

    Args:
        takes: `--bits-file`, in place of the one that was given, or `--config`.
    """
    words = ["qcompile", found.model, "--bits", found.bits, takes, file]
    standard = CompileOptions()
    for name in COMPILED:
        value = getattr(options, name)
        if value == getattr(standard, name) or name == {"--bits-file": "bits_file", "--config": "exclude"}[takes]:
            continue
        value = f"percentile:{options.percentile:g}" if value == "percentile" else value
        for item in value if isinstance(value, tuple) else (value,):
            words += [f"--{name.replace('_', '-')}", str(item)]
    return shlex.join(words)


def check_keep(keep: str, bits: str, file: Path) -> str:
    """`8` or `6` as a precision, or "float".

    Raises:
        UsageError: Another word; no more bits than all layers have; a config that is no TOML.
    """
    if file.suffix not in ((".toml",) if keep == FLOAT else (".toml", ".json")):
        kind = "a config is TOML" if keep == FLOAT else "a bits file is TOML or JSON"
        raise UsageError(kind, where="--write", hint=f"write {file.with_suffix('.toml')}")
    if keep == FLOAT:
        return FLOAT
    if keep not in ("6", "8"):
        raise UsageError(f"{keep!r} is no precision to keep", where="--keep", hint="8, 6 or float")
    match = re.fullmatch(r"w(\d+)a(\d+)", bits)
    if match and max(int(match[1]), 0 if match[2] == "16" else int(match[2])) >= int(keep):
        raise UsageError(f"{keep} bits are no more than {bits}", where="--keep", hint="write --keep float")
    return f"w{keep}a{keep}"


def _plain(name: str) -> str:
    """Without what would end a comment."""
    return "".join(letter for letter in name if letter.isprintable())
