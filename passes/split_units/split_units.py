"""Compute single hidden units of an MLP apart, in float."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, SharedConstants, add_initializer, constant_array, make_node
from qcompiler.passes.canonical.forms import Form, Role, annotate
from qcompiler.passes.sites.records import Channels, Operand, Reader, Refusal, Site
from qcompiler.passes.split_units.hidden_layers import copy_units, hidden_layers
from qcompiler.pipeline import Outcome, Pass, Skip


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
        sites = {site.name: site for site in hidden_layers(model)}
        splitter = _Splitter(model)
        for name, wanted in self.units.items():
            site, units = sites.get(name), np.unique(np.asarray(wanted, np.int64))
            if site is None:
                skipped.append(Skip(name, "no such hidden layer"))
            elif isinstance(site, Refusal):
                skipped.append(Skip(name, site.reason))
            elif reason := _why_not(site, units) or splitter.split(site, units):
                skipped.append(Skip(name, reason))
            else:
                matched.append(name)
        return Outcome(bool(matched), tuple(matched), tuple(skipped))


def _why_not(site: Site, units: Channels) -> str:
    if not units.size or units[0] < 0 or units[-1] >= site.channels:
        return f"units between 0 and {site.channels - 1} are needed"
    if all(not np.any(_rows(reader, units)) for reader in site.readers):
        return "they are apart already"
    return ""


def _rows(reader: Reader, units: Channels) -> np.ndarray[Any, Any]:
    weight = constant_array(reader.weight.value)
    assert weight is not None
    return np.take(weight, units, reader.weight.axis)


class _Splitter:
    """Edits of one model; a weight that several layers read and that changes alike stays shared."""

    def __init__(self, model: ir.Model) -> None:
        self._graph, self._names = model.graph, FreshNames(model)
        self._constants = SharedConstants(model.graph, self._names)
        self._places = {node: place for place, node in enumerate(model.graph)}
        self._cut: dict[tuple[str, int, bytes], ir.Value] = {}

    def split(self, site: Site, units: Channels) -> str:
        """Change the hidden layer; a refusal or ""."""
        copied = copy_units(
            site, self._graph, units, self._names, self._constants, lambda reader: self._places[reader.node]
        )
        if copied.refusal:
            copied.copies.discard()
            return copied.refusal
        for reader, apart, nodes in copied.apart:
            self._graph.insert_before(reader.node, nodes)
            rows = _rows(reader, units)
            if reader.node.op_type != "Conv" and reader.weight.axis != 0:
                rows = rows.T
            self._add_behind(reader, apart, self._constants(rows, f"{reader.weight.value.name}_units"))
            self._cut_out(reader.weight, units)
        taken: dict[tuple[ir.Node, int], tuple[Operand, list[Channels]]] = {}
        for operand, channels in copied.copies.columns:
            taken.setdefault((operand.node, operand.index), (operand, []))[1].append(channels)
        for operand, several in taken.values():
            self._cut_out(operand, np.unique(np.concatenate(several)))
        return ""

    def _add_behind(self, reader: Reader, apart: ir.Value, rows: ir.Value) -> None:
        """layer (+ bias) -> readers   becomes   layer (+ bias) -> Add(apart x rows) -> readers."""
        layer = reader.node
        last = layer if reader.bias is None else reader.bias.node
        value, names = last.outputs[0], self._names
        shape, dtype, about = value.shape, value.dtype, str(value.name)
        op_type, attributes = ("Conv", dict(layer.attributes)) if layer.op_type == "Conv" else ("MatMul", {})
        name, sum_name = names(f"{about}_of_units"), names(f"{about}_whole")
        part = make_node(op_type, [apart, rows], attributes, output=name, dtype=dtype, shape=shape)
        whole = make_node("Add", [value, part.outputs[0]], output=sum_name, dtype=dtype, shape=shape)
        annotate(part, Form.SPLIT, Role.WHOLE, about)
        annotate(whole, Form.SPLIT, Role.RESULT, about)
        value.replace_all_uses_with(whole.outputs[0], replace_graph_outputs=True)
        whole.replace_input_with(0, value)
        self._graph.insert_after(last, [part, whole])
        if whole.outputs[0].is_graph_output():
            value.name = names(f"{about}_but_units")
            whole.outputs[0].name = about

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
