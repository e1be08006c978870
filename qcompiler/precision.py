"""How many bits weights and activations have, by node: the words w8a8, w6a6, w4a16, and files that name nodes."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from qcompiler.errors import UsageError

WIDTHS = (4, 6, 8)
FLOAT_ACTIVATIONS = 16
"""Activations stay in the carrier's float type: only weights are quantized, in blocks."""


@dataclass(frozen=True, slots=True)
class Precision:
    """Bits of one node; integers lie in int8 containers, int4 weights of w4a16 are packed.

    Attributes:
        weights: 4, 6 or 8: codes within +-(2^(bits - 1) - 1).
        activations: 4, 6 or 8 likewise; 16 leaves them float.
    """

    weights: int = 8
    activations: int = 8

    @property
    def weight_only(self) -> bool:
        """Whether activations stay float."""
        return self.activations == FLOAT_ACTIVATIONS

    def __str__(self) -> str:
        return f"w{self.weights}a{self.activations}"


W8A8 = Precision()


@dataclass(frozen=True, slots=True)
class Precisions:
    """The precision of every node: `nodes` by name, all others `default`."""

    default: Precision = W8A8
    nodes: Mapping[str, Precision] = field(default_factory=dict)

    def of(self, node: str) -> Precision:
        """What this node has."""
        return self.nodes.get(node, self.default)

    def kinds(self) -> frozenset[Precision]:
        """All that are asked for."""
        return frozenset({self.default, *self.nodes.values()})


ALL_8_BITS = Precisions()


def parse_precision(word: object, where: str) -> Precision:
    """`wNaM` with N and M of 4, 6, 8; or w4a16.

    Raises:
        UsageError: Anything else.
    """
    match = re.fullmatch(r"w(\d+)a(\d+)", word) if isinstance(word, str) else None
    found = None if match is None else Precision(int(match[1]), int(match[2]))
    if found is None or found.weights not in WIDTHS or (found.activations not in WIDTHS and not found.weight_only):
        raise UsageError(f"{word!r} is no precision", where=where, hint="write w8a8, w6a6, w4a8, ... or w4a16")
    if found.weight_only and found.weights != 4:
        raise UsageError(f"{word} is no precision", where=where, hint="with float activations weights are int4: w4a16")
    return found


def read_bits_file(path: Path) -> dict[str, Precision]:
    """Regular expression to precision, in the file's order; TOML by its suffix, else JSON.

    Raises:
        UsageError: It can't be read, isn't a table of texts, has an entry that is no precision, or none at all.
    """
    try:
        content = path.read_text("utf-8")
        document = _toml(content) if path.suffix == ".toml" else json.loads(content)
    except OSError as error:
        raise UsageError(f"cannot read the bits: {error.strerror}", where=str(path)) from error
    except ValueError as error:
        kind = "TOML" if path.suffix == ".toml" else "JSON"
        raise UsageError(f"not {kind}: {error}", where=str(path)) from error
    if not isinstance(document, dict) or not document:
        raise UsageError("no table of nodes and bits", where=str(path), hint='write "layers.0/" = "w8a8", one a line')
    return {pattern: parse_precision(word, f"{path}: {pattern}") for pattern, word in document.items()}


def _toml(text: str) -> object:
    module = "tomllib" if sys.version_info >= (3, 11) else "tomli"
    return import_module(module).loads(text)
