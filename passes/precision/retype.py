"""Gives every node its float type and casts its operands to it; the second half of `carry-float16`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import onnx_ir as ir

from qcompiler.graph import LAYOUT_OPS, constant_array, is_constant
from qcompiler.passes.precision.casting import Caster, to_type
from qcompiler.passes.precision.limits import scale_is_unfit
from qcompiler.passes.precision.slots import is_carried, slots_of

HALF: Final = ir.DataType.FLOAT16
FLOAT: Final = ir.DataType.FLOAT

_LIKE: Final = frozenset({"EyeLike", "RandomNormalLike", "RandomUniformLike"})
"""Operators that take a shape from an operand, and a type unless an attribute names one."""
_MOVES: Final = LAYOUT_OPS | frozenset(
    {"Slice", "Split", "Gather", "GatherElements", "GatherND", "Concat", "Expand", "Tile", "Pad", "DepthToSpace",
     "SpaceToDepth", "QuantizeLinear", "Shape", "Size", "IsNaN", "IsInf"}
)
"""Operators that keep the type of what they read: casting there would only move bytes twice."""


class Retyper:
    """One conversion of one model. `kept` are the nodes that compute in float32."""

    def __init__(self, model: ir.Model, kept: Collection[ir.Node], caster: Caster, *, half_io: bool) -> None:
        self.model = model
        self.kept = kept
        self.caster = caster
        self.half_io = half_io
        self.opset = model.opset_imports.get("", 19)

    def run(self) -> None:
        """Convert the model in place."""
        graph = self.model.graph
        stated = [value.dtype for value in graph.outputs]
        if self.half_io:
            for value in graph.inputs:
                if value.dtype == FLOAT:
                    _set_type(value, HALF)
        self._graph(graph)
        for index, value in enumerate(graph.outputs):
            wanted = HALF if self.half_io or stated[index] == HALF else FLOAT
            if is_carried(value) and value.dtype != wanted:
                self._return(index, value, wanted)
        for inner in self.model.graphs():
            for value in [item for item in inner.initializers.values() if not item.uses()]:
                if not value.is_graph_output() and not value.is_graph_input():
                    del inner.initializers[value.name or ""]

    def _return(self, index: int, value: ir.Value, wanted: ir.DataType) -> None:
        """Output `index` in the type of the interface, under the name that it had."""
        graph, name = self.model.graph, value.name or ""
        made = self.caster.in_type(value, wanted)
        value.name, made.name = self.caster.fresh(f"{name}_carried"), name
        graph.outputs[index] = made

    def _graph(self, graph: ir.Graph) -> None:
        for node in list(graph):
            if node.op_type == "Scan":
                self._scan(node)
            elif node.op_type == "Loop":
                self._loop(node)
            elif node.op_type == "If":
                self._if(node)
            else:
                self._plain(node)
                if node.op_type == "Cast":
                    self._skip_identity(node)

    def _skip_identity(self, node: ir.Node) -> None:
        """A Cast to the type that its input already has goes away, unless it names an output."""
        source, result = node.inputs[0], node.outputs[0]
        if source is not None and source.dtype == result.dtype and is_carried(source) and not result.is_graph_output():
            result.replace_all_uses_with(source)
            assert node.graph is not None
            node.graph.remove(node, safe=True)

    def _plain(self, node: ir.Node) -> None:
        slots = slots_of(node.op_type, node.domain, self.opset)
        wanted = self._wanted(node)
        bound: set[str] = set()
        for index, value in enumerate(node.inputs):
            if value is None or not is_carried(value):
                continue
            variable = slots.input(index) if slots else ""
            of_input = wanted if slots and variable in slots.half else FLOAT
            if node.op_type != "Cast":
                node.replace_input_with(index, self.caster.in_type(value, of_input))
                bound.add(variable)
        for index, value in enumerate(node.outputs):
            if slots and slots.output(index) in bound and slots.output(index) in slots.half:
                _set_type(value, wanted)
        self._unbound(node, wanted)

    def _unbound(self, node: ir.Node, wanted: ir.DataType) -> None:
        """Operators whose output type an attribute or another operand names."""
        result = node.outputs[0]
        if node.op_type == "Cast" and result.dtype == FLOAT:
            node.attributes["to"] = ir.AttrInt64("to", int(wanted))
            _set_type(result, wanted)
        elif node.op_type in _LIKE and result.dtype == FLOAT:  # without the attribute they follow their operand
            node.attributes["dtype"] = ir.AttrInt64("dtype", int(wanted))
            _set_type(result, wanted)
        elif node.op_type == "DequantizeLinear" and node.inputs[1] is not None:
            _set_type(result, node.inputs[1].dtype)
            node.attributes.pop("output_dtype", None)
        elif node.op_type == "ConstantOfShape" and result.dtype == FLOAT and wanted == HALF:
            given = node.attributes.get("value")
            if given is None:
                tensor = ir.tensor([0.0], dtype=HALF)
            else:
                tensor = ir.tensor(to_type(given.as_tensor().numpy(), HALF))
            node.attributes["value"] = ir.AttrTensor("value", tensor)
            _set_type(result, HALF)

    def _wanted(self, node: ir.Node) -> ir.DataType:
        if node in self.kept:
            return FLOAT
        if node.op_type == "DequantizeLinear":
            readers = list(node.outputs[0].consumers())
            return FLOAT if readers and all(reader in self.kept for reader in readers) else HALF
        if node.op_type in _MOVES and not self.half_scale_unfit(node):
            data = [value for value in node.inputs if value is not None and is_carried(value)]
            data = data[:1] if node.op_type == "QuantizeLinear" else data
            moved = [value for value in data if not is_constant(value) and not _is_border(value)]
            return FLOAT if moved and all(value.dtype == FLOAT for value in moved) else HALF
        return FLOAT if node.op_type == "QuantizeLinear" else HALF

    @staticmethod
    def half_scale_unfit(node: ir.Node) -> bool:
        """Whether a QuantizeLinear has a scale that float16 can't hold."""
        scale = constant_array(node.inputs[1]) if node.op_type == "QuantizeLinear" else None
        return scale is not None and scale_is_unfit(scale)

    def _scan(self, node: ir.Node) -> None:
        body = node.attributes["body"].as_graph()
        states = len(body.inputs) - node.attributes["num_scan_inputs"].as_int()
        for index, inner in enumerate(body.inputs):
            outer = node.inputs[index]
            if outer is None or not is_carried(outer):
                continue
            readers = inner.consumers()
            wide = index < states or (bool(readers) and all(reader in self.kept for reader in readers))
            carried = FLOAT if wide else HALF
            _set_type(inner, carried)
            node.replace_input_with(index, self.caster.in_type(outer, carried))
        self._body(node, body, first_state=0, states=states)

    def _loop(self, node: ir.Node) -> None:
        body = node.attributes["body"].as_graph()
        for index in range(2, len(node.inputs)):
            outer, inner = node.inputs[index], body.inputs[index]
            if outer is not None and is_carried(outer):
                _set_type(inner, FLOAT)
                node.replace_input_with(index, self.caster.in_type(outer, FLOAT))
        self._body(node, body, first_state=1, states=len(node.inputs) - 2)

    def _body(self, node: ir.Node, body: ir.Graph, *, first_state: int, states: int) -> None:
        """Convert a body; its states come back as float32, its scan outputs as they are."""
        self._graph(body)
        for index, result in enumerate(node.outputs):
            place = first_state + index
            inner = body.outputs[place]
            if not is_carried(inner):
                continue
            if index < states:
                body.outputs[place] = inner = self.caster.in_type(inner, FLOAT)
            _set_type(result, inner.dtype)

    def _if(self, node: ir.Node) -> None:
        branches = [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]
        for branch in branches:
            self._graph(branch)
        for index, result in enumerate(node.outputs):
            inner = [branch.outputs[index] for branch in branches]
            if not any(is_carried(value) for value in inner):
                continue
            wanted = FLOAT if all(value.dtype == FLOAT for value in inner) else HALF
            for branch, value in zip(branches, inner, strict=True):
                branch.outputs[index] = self.caster.in_type(value, wanted)
            _set_type(result, wanted)


def _set_type(value: ir.Value, dtype: ir.DataType | None) -> None:
    """Set the type by a new object: clones share the old one, and setting `dtype` would write into it."""
    value.type = None if dtype is None else ir.TensorType(dtype)


def _is_border(value: ir.Value) -> bool:
    return value.is_graph_input()
