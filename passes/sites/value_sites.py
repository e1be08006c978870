"""Value projection to output projection, through the heads of each attention."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.passes.sites.records import Kind, Refusal, Site
from qcompiler.passes.sites.value_paths import ValuePath, value_paths


def value_sites(model: ir.Model) -> list[Site | Refusal]:
    """One candidate for each attention.

    Values are mixed over positions with weights that sum to 1, so that a scale and a shift of a channel pass through.
    Heads of grouped queries share the channels of their group.
    """
    return [item if isinstance(item, Refusal) else _site(item) for item in value_paths(model)]


def _site(path: ValuePath) -> Site:
    same = np.array_equal(path.to_source, np.arange(path.part.size))
    return Site(
        Kind.VALUE, path.joined, path.to_source.size, (path.weight,), path.bias, path.readers,
        shifts=path.whole and path.bias is not None,
        to_source=None if same else path.to_source,
        part=None if path.part.size == path.total else path.part,
    )  # fmt: skip
