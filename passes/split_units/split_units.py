"""Compute single hidden units of an MLP apart, in float."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, SharedConstants, add_initializer, constant_array, make_node
from qcompiler.passes.canonical.forms import Form, Role, annotate
from qcompiler.passes.sites.layer_sites import mlp_sites
from qcompiler.passes.sites.records import Channels, Kind, Operand, Reader, Refusal, Site
from qcompiler.passes.split_units.unit_copies import Refused, UnitCopies
from qcompiler.pipeline import Outcome, Pass, Skip


def unit_sites(model: ir.Model) -> list[Site | Refusal]:
    """Hidden layers of MLPs, plain or gated, whose units can be computed apart."""
    found: list[Site | Refusal] = []
    names = FreshNames(model)
    for site in mlp_sites(model):
        reason = site.reason if isinstance(site, Refusal) else _why_not(site, model.graph, names)
        found.append(Refusal(site.kind, site.name, reason) if reason else site)
    return found


@dataclass(frozen=True)
class SplitUnits(Pass):
    """h = f(x) -> W h   becomes   h' = f'(x) -> W' h'  +  W_C f_C(x), where C are a few units.

    f_C is f for these units alone, by narrow copies of the layers and operators that make h; f' has zero columns for
    them, and W' zero rows, so that neither the range of h' nor the scales of W' know of them. The narrow products stay
    float. One unit that is 20 on one token and meets weights of 8 (massive activations, Sun et al., arXiv:2402.17762)
    decides the step of all others, and no scale of the channel helps: what it takes from h it adds to W. Splitting off
    channels is LLM.int8()'s remedy (Dettmers et al., arXiv:2208.07339, section 3.2), here with a fixed set, and in
    front of the layers that make them, so that nothing as wide as h is read or copied again.

    Attributes:
        units: Name of a site to its units.
    """

    name: ClassVar[str] = "split-units"
    units: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def run(self, model: ir.Model) -> Outcome:
        matched: list[str] = []
        skipped: list[Skip] = []
        if not self.units:
            return Outcome(False)
        splitter = _Splitter(model)
        sites = {site.name: site for site in mlp_sites(model)}
        for name, wanted in self.units.items():
            site = sites.get(name)
            units = np.unique(np.asarray(wanted, np.int64))
            if site is None:
                skipped.append(Skip(name, "no such hidden layer"))
            elif isinstance(site, Refusal):
                skipped.append(Skip(name, site.reason))
            elif not units.size or units[0] < 0 or units[-1] >= site.channels:
                skipped.append(Skip(name, f"units between 0 and {site.channels - 1} are needed"))
            elif reason := splitter.split(site, units):
                skipped.append(Skip(name, reason))
            else:
                matched.append(name)
        return Outcome(bool(matched), tuple(matched), tuple(skipped))


def _why_not(site: Site, graph: ir.Graph, names: FreshNames) -> str:
    """A reason, or ""; nothing is put into the graph."""
    apart = SharedConstants(ir.Graph([], [], nodes=[]), names)
    copies, reason = _copied(site, graph, np.zeros(1, np.int64), names, apart)
    copies.discard()
    return reason


def _copied(
    site: Site, graph: ir.Graph, units: Channels, names: FreshNames, constants: SharedConstants
) -> tuple[UnitCopies, str]:
    copies = UnitCopies(graph, names, constants)
    if site.kind not in (Kind.ACTIVATION, Kind.GATED, Kind.RELU) or site.axis != -1:
        return copies, "it is no hidden layer with its channels last"
    readers = {reader.node for reader in site.readers}
    if any(reader.node.op_type == "Conv" or reader.node.inputs[0] is not site.value for reader in site.readers):
        return copies, "it is read through layout operators, or by a convolution"
    if any(use.node not in readers and use.node.op_type != "Shape" for use in site.value.uses()):
        return copies, "other nodes than layers read it"
    try:
        copies.take(site.value, units)
    except Refused as refusal:
        return copies, str(refusal)
    others = copies.outside_readers(site.value)
    return copies, f"what makes it is read by {', '.join(sorted(others))} too" if others else ""


class _Splitter:
    """Edits of one model; a weight that several layers read and that changes alike stays shared."""

    def __init__(self, model: ir.Model) -> None:
        self._graph, self._names = model.graph, FreshNames(model)
        self._constants = SharedConstants(model.graph, self._names)
        self._cut: dict[tuple[str, int, bytes], ir.Value] = {}

    def split(self, site: Site, units: Channels) -> str:
        """Change the hidden layer; a refusal or ""."""
        copies, reason = _copied(site, self._graph, units, self._names, self._constants)
        if reason:
            copies.discard()
            return reason
        maker = site.value.producer()
        assert maker is not None
        self._graph.insert_after(maker, copies.nodes)
        apart = copies.nodes[-1].outputs[0]
        for operand, channels in copies.columns:
            self._cut_out(operand, channels)
        for reader in site.readers:
            weight = constant_array(reader.weight.value)
            assert weight is not None
            rows = np.take(weight, units, reader.weight.axis)
            held = self._constants(rows if reader.weight.axis == 0 else rows.T, f"{reader.weight.value.name}_units")
            self._add_behind(reader, apart, held)
            self._cut_out(reader.weight, units)
        return ""

    def _add_behind(self, reader: Reader, apart: ir.Value, rows: ir.Value) -> None:
        """layer (+ bias) -> readers   becomes   layer (+ bias) -> Add(apart x rows) -> readers."""
        last = reader.node if reader.bias is None else reader.bias.node
        value, names = last.outputs[0], self._names
        shape, dtype = value.shape, value.dtype
        part = make_node("MatMul", [apart, rows], output=names(f"{value.name}_of_units"), dtype=dtype, shape=shape)
        annotate(part, Form.SPLIT, Role.WHOLE, str(value.name))
        summands = [value, part.outputs[0]]
        whole = make_node("Add", [*summands], output=names(f"{value.name}_whole"), dtype=dtype, shape=shape)
        value.replace_all_uses_with(whole.outputs[0], replace_graph_outputs=True)
        whole.replace_input_with(0, value)
        self._graph.insert_after(last, [part, whole])
        if whole.outputs[0].is_graph_output():
            name, value.name = value.name, names(f"{value.name}_but_units")
            whole.outputs[0].name = name

    def _cut_out(self, operand: Operand, channels: Channels) -> None:
        """Zeros in a constant, which is not written in place."""
        old = operand.value
        key = (str(old.name), operand.axis, channels.tobytes())
        if key not in self._cut:
            array = constant_array(old)
            assert array is not None
            made = array.copy()
            np.moveaxis(made, operand.axis, 0)[channels] = 0
            self._cut[key] = add_initializer(self._graph, made, self._names(f"{old.name}_but_units"))
        operand.node.replace_input_with(operand.index, self._cut[key])
