"""Hidden layers: what layers read, made channel by channel and not linearly from what layers give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.graph import is_constant, rank
from qcompiler.passes.canonical.forms import Form, form_of
from qcompiler.passes.equalize.sample_rows import input_axis
from qcompiler.passes.sites.layer_sites import hidden_values
from qcompiler.passes.sites.readers import find_readers
from qcompiler.passes.sites.records import Channels, Kind, Reader, Refusal, Site
from qcompiler.passes.split_units.unit_copies import BINARY, LAYOUT, UNARY, Constants, Refused, UnitCopies

_LINEAR_UNARY = frozenset({"Cast", "Identity", "Neg"})
_LINEAR_BINARY = frozenset({"Add", "Sub", "Sum"})


@dataclass(frozen=True, slots=True)
class Copied:
    """A hidden layer with copies of some of its units.

    Attributes:
        apart: By reader of the site, the units in the form in which it reads them, and the nodes that this took.
    """

    copies: UnitCopies
    apart: tuple[tuple[Reader, ir.Value, tuple[ir.Node, ...]], ...] = ()
    refusal: str = ""


def hidden_layers(model: ir.Model) -> list[Site | Refusal]:
    """Every hidden layer whose units can be computed apart, in graph order, and each MLP where they cannot.

    Plain and gated MLPs of all activation functions; the last axis holds the channels, or the axis of a 1x1 Conv.
    The model is left as it is.
    """
    known = {node: kind for kind, node in hidden_values(model)}
    found: list[Site | Refusal] = []
    for node in model.graph:
        kind = known.get(node)
        if kind is None and (node.domain != "" or node.op_type not in (UNARY - _LINEAR_UNARY) | BINARY):
            continue
        site = _site(kind or Kind.ACTIVATION, node.outputs[0])
        if isinstance(site, Site):
            copied = copy_units(site, model.graph, np.zeros(1, np.int64), str, _loose)
            refusal, linear = copied.refusal, not any(map(_is_nonlinear, copied.copies.cone))
            copied.copies.discard()
            if not refusal and linear:
                continue
            site = Refusal(site.kind, site.name, refusal) if refusal else site
        if isinstance(site, Site) or (site is not None and kind is not None):
            found.append(site)
    return found


def copy_units(
    site: Site, graph: ir.Graph, units: Channels, names: Callable[[str], str], constants: Constants,
    order: Callable[[Reader], int] = lambda reader: 0,
) -> Copied:  # fmt: skip
    """Copies of units for every reader, in that order; a refusal where something else reads what makes the layer."""
    copies = UnitCopies(graph, names, constants)
    apart: list[tuple[Reader, ir.Value, tuple[ir.Node, ...]]] = []
    try:
        for reader in sorted(site.readers, key=order):
            data, done = reader.node.inputs[0], len(copies.nodes)
            assert data is not None
            made = copies.take(data, units, input_axis(reader.node))
            apart.append((reader, made, tuple(copies.nodes[done:])))
    except Refused as error:
        return Copied(copies, refusal=str(error))
    others = _outside_readers(copies, {reader.node for reader in site.readers})
    refusal = f"what makes it is read by {', '.join(sorted(others))} too" if others else ""
    return Copied(copies, tuple(apart), refusal)


def _site(kind: Kind, value: ir.Value) -> Site | Refusal | None:
    dims = rank(value) or 0
    for axis in (-1, 1 - dims) if dims > 2 else (-1,):
        found = find_readers(value, axis)
        if all(form_of(reader.node) is Form.SPLIT for reader in found.layers):
            continue  # no layer reads it, or it holds units that are apart already
        channels = value.shape[axis] if value.shape is not None and dims else None
        if found.refusal or found.edges:
            edges = ", ".join(sorted({edge.node.op_type for edge in found.edges}))
            return Refusal(kind, str(value.name), found.refusal or f"{edges} reads it too")
        if not isinstance(channels, int) or channels < 2:
            return Refusal(kind, str(value.name), "the number of its units is not known, or 1")
        if any(reader.node.op_type not in ("MatMul", "Gemm", "Conv") for reader in found.layers):
            return Refusal(kind, str(value.name), "it is read by other layers than MatMul, Gemm and Conv")
        return Site(kind, value, channels, (), None, tuple(found.layers), axis=axis, shifts=False)
    return None


def _outside_readers(copies: UnitCopies, readers: set[ir.Node]) -> set[str]:
    """Operators other than the readers that read what makes the units; the copies are none."""
    inside = copies.cone | set(copies.nodes)
    made = [item for node in copies.cone for item in node.outputs]
    uses = [use for item in made for use in item.uses() if use.node not in inside]
    found = {use.node.op_type for use in uses if use.node not in readers or use.idx != 0}
    return found - {"Shape"} | {"the model's outputs" for item in made if item.is_graph_output()}


def _is_nonlinear(node: ir.Node) -> bool:
    if node.op_type in BINARY - _LINEAR_BINARY:
        constant = any(is_constant(item) for item in node.inputs)
        return not constant or node.op_type in ("Max", "Min", "Pow") or (
            node.op_type == "Div" and is_constant(node.inputs[0])
        )  # fmt: skip
    return node.op_type in UNARY - _LINEAR_UNARY and node.op_type not in LAYOUT


def _loose(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]], wish: str) -> ir.Value:
    """A constant of no graph."""
    return ir.Value(name=wish, shape=ir.Shape(array.shape), const_value=ir.tensor(np.ascontiguousarray(array)))
