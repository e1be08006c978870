"""Matrix product to matrix product: factorized layers, projections in two steps."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.passes.sites.layers import layer_made
from qcompiler.passes.sites.readers import find_readers, reader_of
from qcompiler.passes.sites.records import Kind, Refusal, Site


def linear_sites(model: ir.Model) -> list[Site | Refusal]:
    """One candidate for each MatMul or Gemm whose output, biased, a layer reads through layout operators alone.

    All in between is linear: a shift passes as well as a scale, where there is a bias to take it.
    """
    found = []
    for node in model.graph:
        layer = reader_of(node, 0, -1) if node.op_type in ("MatMul", "Gemm") else None
        if layer is None:
            continue
        value = (layer.bias.node if layer.bias is not None else node).outputs[0]
        candidate = _candidate(value)
        if candidate is not None:
            found.append(candidate)
    return found


def _candidate(value: ir.Value) -> Site | Refusal | None:
    read = find_readers(value)
    if not read.layers:
        return None
    made = layer_made(value)
    if read.refusal or read.edges or made is None:
        names = ", ".join(sorted({edge.node.op_type for edge in read.edges}))
        reason = read.refusal or (f"{names} reads it too" if names else "the layer's output is read unbiased too")
        return Refusal(Kind.LINEAR, str(value.name), reason)
    weight, bias, channels = made
    return Site(Kind.LINEAR, value, channels, (weight,), bias, tuple(read.layers), shifts=bias is not None)
