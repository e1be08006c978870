"""Shift and scale the channels of a tensor, and undo both in the layers that read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer, constant_array, make_node
from qcompiler.passes.sites.find import find_sites
from qcompiler.passes.sites.records import Edge, Operand, Reader, Reals, Site
from qcompiler.pipeline import Outcome, Pass, Skip

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class ShiftScale:
    """x becomes (x - shift) / scale, both [channels] of what makes x, float64; scales are positive."""

    shift: Reals
    scale: Reals

    @property
    def shifts(self) -> bool:
        """Whether any channel moves."""
        return bool(np.any(self.shift))

    @property
    def scales(self) -> bool:
        """Whether any channel changes its size."""
        return bool(np.any(self.scale != 1))


@dataclass(frozen=True)
class FoldShiftScale(Pass):
    """norm -> W x + b   becomes   (norm - z) / s -> W diag(s) x + (b + W z), and the same between two layers.

    gain / s, (bias - z) / s, weights times s and biases plus W z are taken in float64 and rounded once; a layer without
    a bias gets an Add where z is not 0. On an edge to a node that is no layer (the residual of a post-LN block) x * s
    is a Mul, and z goes into the bias of the layer that the same Add brings in, or an Add. Behind an activation
    function they are a Mul and an Add in front of the readers. Nothing else is added.
    Initializers are never written in place: others that read them (tied weights) keep theirs.

    Source: Outlier Suppression+, arXiv:2304.09145, equations 3 to 6.

    Attributes:
        parameters: Name of a site to its shift and scale.
    """

    name: ClassVar[str] = "fold-shift-scale"
    parameters: Mapping[str, ShiftScale] = field(default_factory=dict, repr=False)

    def run(self, model: ir.Model) -> Outcome:
        matched: list[str] = []
        skipped: list[Skip] = []
        if not self.parameters:
            return Outcome(False)
        editor = _Editor(model)
        sites = {site.name: site for site in _last_first(model, find_sites(model).sites)}
        reasons = {name: editor.fold(site, self.parameters[name])
                   for name, site in sites.items() if name in self.parameters}  # fmt: skip
        for name, wanted in self.parameters.items():
            reason = reasons.get(name, "no such site")
            if reason:
                skipped.append(Skip(name, reason))
            elif wanted.shifts or wanted.scales:
                matched.append(name)
        return Outcome(bool(matched), tuple(matched), tuple(skipped))


def _last_first(model: ir.Model, sites: Iterable[Site]) -> list[Site]:
    """Against the order of the graph: the Add that a shift puts behind a layer without a bias is made from the weight
    as the site behind that layer leaves it."""
    places = {value: place for place, node in enumerate(model.graph) for value in node.outputs}
    return sorted(sites, key=lambda site: -places.get(site.value, 0))


class _Editor:
    """Edits of one model; what several nodes share and is changed alike stays shared."""

    def __init__(self, model: ir.Model) -> None:
        self._names = FreshNames(model)
        self._made: dict[tuple[int, int, bytes, bytes], ir.Value] = {}
        self._keep: list[ir.Value] = []

    def fold(self, site: Site, wanted: ShiftScale) -> str:
        """Change the site; a refusal or ""."""
        spread = slice(None) if site.to_source is None else site.to_source
        shift, scale = wanted.shift[spread], wanted.scale[spread]
        if scale.shape != (site.channels,) or shift.shape != scale.shape or not np.all(scale > 0):
            return f"a positive scale and a shift for each of {site.channels} channels are needed"
        if wanted.shifts and not site.shifts:
            return "a shift is not exact here"
        if site.edges and wanted.scales and any(edge.node.graph is None for edge in site.edges):
            return "an edge has no graph"
        with np.errstate(over="ignore", invalid="ignore"):
            if not site.scales:
                self._insert_behind(site, shift, scale)
            for operand in site.scales:
                wide = _wide(operand)
                factors = _whole(site, 1 / wanted.scale, wide.shape[operand.axis], 1.0)
                self._set(operand, _along(wide, factors, operand.axis))
            if site.scales and (wanted.shifts or (wanted.scales and site.bias is not None)):
                self._shift_source(site, wanted)
            for reader in site.readers:
                self._read(reader, shift, scale)
            for edge in site.edges:
                self._restore(edge, shift, scale)
        return ""

    def _shift_source(self, site: Site, wanted: ShiftScale) -> None:
        if site.bias is not None:
            old = _wide(site.bias).reshape(-1)
            shift, scale = _whole(site, wanted.shift, old.size, 0.0), _whole(site, wanted.scale, old.size, 1.0)
            self._set(site.bias, ((old - shift) / scale).reshape(_form(site.bias, shift.size)))
            return
        node = site.bias_node
        if node is None:
            raise ValueError(f"{site.name} takes no shift")
        gain = site.scales[0].value
        node.resize_inputs(3)
        self._put(Operand(node, 2), gain, -wanted.shift / wanted.scale, "bias")

    def _insert_behind(self, site: Site, shift: Reals, scale: Reals) -> None:
        """value -> readers   becomes   value -> Mul(1 / s) -> Add(-z / s) -> readers; no node for s = 1 or z = 0."""
        value, graph = site.value, site.readers[0].node.graph
        maker = value.producer()
        assert isinstance(graph, ir.Graph) and maker is not None
        uses = tuple(value.uses())
        current, last = value, maker
        for op, numbers in (("Mul", 1 / scale), ("Add", -shift / scale)):
            if np.all(numbers == (op == "Mul")):
                continue
            constant = self._constant(graph, value, numbers, "equalize")
            name = self._names(f"{value.name}_{'scaled' if op == 'Mul' else 'shifted'}")
            node = make_node(op, [current, constant], output=name, dtype=value.dtype, shape=value.shape)
            graph.insert_after(last, node)
            current, last = node.outputs[0], node
        for use in uses:
            use.node.replace_input_with(use.idx, current)

    def _read(self, reader: Reader, shift: Reals, scale: Reals) -> None:
        weight = _wide(reader.weight)
        self._set(reader.weight, _along(weight, scale, reader.weight.axis))
        if not np.any(shift):
            return
        matrix = weight.reshape(weight.shape[:2])  # a 1x1 Conv is one
        moved = shift @ (matrix if reader.weight.axis == 0 else matrix.T)
        if reader.bias is not None:
            self._set(reader.bias, _wide(reader.bias) + moved.reshape(_form(reader.bias, moved.size)))
        elif reader.node.op_type == "MatMul":
            self._add_behind(reader.node, moved)
        else:
            reader.node.resize_inputs(3)
            self._put(Operand(reader.node, 2), reader.weight.value, moved, "bias")

    def _restore(self, edge: Edge, shift: Reals, scale: Reals) -> None:
        """Give a reader x * s + z."""
        form = (-1, *[1] * (-edge.axis - 1))
        if np.any(scale != 1):
            self._insert("Mul", edge, scale.reshape(form))
        if np.any(shift):
            if edge.bias is not None and edge.axis == -1:
                self._set(edge.bias, _wide(edge.bias) + shift.reshape(_form(edge.bias, shift.size)))
            else:
                self._insert("Add", edge, shift.reshape(form))

    def _insert(self, op: str, edge: Edge, numbers: Array) -> None:
        value = edge.node.inputs[edge.index]
        graph = edge.node.graph
        assert value is not None and isinstance(graph, ir.Graph)
        constant = self._constant(graph, value, numbers, "restore")
        name = self._names(f"{value.name}_{'scaled' if op == 'Mul' else 'shifted'}_back")
        node = make_node(op, [value, constant], output=name, dtype=value.dtype, shape=value.shape)
        graph.insert_before(edge.node, node)
        edge.node.replace_input_with(edge.index, node.outputs[0])

    def _add_behind(self, node: ir.Node, numbers: Array) -> None:
        """node -> readers   becomes   node -> Add(numbers) -> readers; an output of the graph keeps its name."""
        value, graph = node.outputs[0], node.graph
        assert isinstance(graph, ir.Graph)
        constant = self._constant(graph, node.inputs[1] or value, numbers, "bias")
        output = self._names(f"{value.name}_biased")
        add = make_node("Add", [value, constant], output=output, dtype=value.dtype, shape=value.shape)
        value.replace_all_uses_with(add.outputs[0], replace_graph_outputs=True)
        add.replace_input_with(0, value)
        graph.insert_after(node, add)
        if add.outputs[0].is_graph_output():
            name, value.name = value.name, self._names(f"{value.name}_unbiased")
            add.outputs[0].name = name

    def _set(self, operand: Operand, numbers: Array) -> None:
        old = operand.value
        key = (id(old), operand.axis, numbers.tobytes(), str(numbers.shape).encode())
        if key not in self._made:
            self._keep.append(old)  # else its id may come again
            graph = operand.node.graph
            assert isinstance(graph, ir.Graph)
            self._made[key] = self._constant(graph, old, numbers, "eq")
        operand.node.replace_input_with(operand.index, self._made[key])

    def _put(self, operand: Operand, like: ir.Value, numbers: Array, suffix: str) -> None:
        graph = operand.node.graph
        assert isinstance(graph, ir.Graph)
        operand.node.replace_input_with(operand.index, self._constant(graph, like, numbers, suffix))

    def _constant(self, graph: ir.Graph, like: ir.Value, numbers: Array, suffix: str) -> ir.Value:
        dtype = like.dtype.numpy() if like.dtype is not None else np.float32
        return add_initializer(graph, numbers.astype(dtype), self._names(f"{like.name}_{suffix}"))


def _whole(site: Site, numbers: Reals, channels: int, rest: float) -> Reals:
    """One number for each channel of the source layer: `rest` for those that are not the site's."""
    if site.part is None:
        return numbers
    made: Reals = np.full(channels, rest)
    made[site.part] = numbers
    return made


def _wide(operand: Operand) -> Array:
    array = constant_array(operand.value)
    if array is None:
        raise ValueError(f"{operand.value.name} is no constant")
    return array.astype(np.float64)


def _form(operand: Operand, size: int) -> tuple[int, ...]:
    """The shape of a bias operand, or a vector where it is a single number for all channels."""
    shape = _wide(operand).shape
    return shape if int(np.prod(shape)) == size else (size,)


def _along(array: Array, factors: Reals, axis: int) -> Array:
    """array * factors, the factors along `axis`; a single number is spread first."""
    if array.size == 1 and factors.size != 1:
        return np.asarray(array.reshape(-1) * factors)
    form = [1] * array.ndim
    form[axis] = -1
    return np.asarray(array * factors.reshape(form))
