"""What can be computed now is computed now: constants, weights behind layout operators, static shape arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.graph import is_constant
from qcompiler.passes.normalize.evaluate import evaluate
from qcompiler.passes.normalize.operators import QUANTIZATION_OPS, RANDOM_OPS, has_subgraph
from qcompiler.passes.normalize.shape_values import (
    Entry,
    ShapeValue,
    dims_of,
    evaluate_shape_op,
    reshaped,
    to_shape,
)
from qcompiler.pipeline import Outcome, Pass, Skip

_MAX_SHAPE_ELEMENTS = 64
_LAZY_BYTES = 1 << 20
_LAYOUT = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast"})
_INVENTED = "unk__"
"""How ONNX's inference begins the names of dimensions that it knows nothing of; each is one dimension."""
_NEVER = RANDOM_OPS | QUANTIZATION_OPS | {"Constant", "Identity"}  # drop-no-ops bypasses Identity without a copy


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Nodes on constants become initializers; shape arithmetic is followed through symbolic dimensions.

    One walk in graph order carries partly known shape operands (see `shape_values`), so Shape, Gather, Concat, ... fold
    where the dimensions in question are static, and a Reshape whose target has one dynamic entry gets a constant
    target. A Tile that repeats axes of length 1 alone becomes an Expand, whose shape inference knows. Large
    weights behind Transpose, Cast and the like become lazy tensors: nothing is copied until it is read. Never folded:
    Q/DQ, random operators, nodes with subgraphs, strings. Needs shapes (`infer-shapes`) and sorted nodes.

    Attributes:
        growth_limit: Bytes by which one result may exceed its operands.
        resize_limit: The same for Resize: a position table that is resized at run time should fold.
    """

    name: ClassVar[str] = "fold-constants"
    growth_limit: int = 1 << 20
    resize_limit: int = 1 << 26

    def run(self, model: ir.Model) -> Outcome:
        walk = _Walk(self, model.opset_imports[""])
        walk.visit(model.graph)
        return Outcome(walk.modified, tuple(walk.folded), tuple(walk.skipped))


class _Walk:
    def __init__(self, options: FoldConstants, opset: int) -> None:
        self.options = options
        self.opset = opset
        self.folded: list[str] = []
        self.skipped: list[Skip] = []
        self.modified = False
        self._shapes: dict[ir.Value, ShapeValue | None] = {}
        self._names: dict[str, str] = {}
        self._targets: dict[tuple[int, tuple[int, ...]], ir.Value] = {}

    def visit(self, graph: ir.Graph) -> None:
        for node in graph:
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.GRAPH:
                    self.visit(attribute.as_graph())
                elif attribute.type == ir.AttributeType.GRAPHS:
                    for inner in attribute.as_graphs():
                        self.visit(inner)
            if node.domain == "" and node.op_type not in _NEVER and not has_subgraph(node):
                self._visit_node(graph, node)

    def _visit_node(self, graph: ir.Graph, node: ir.Node) -> None:
        for value in node.outputs:
            self._rename(value)
        if node.op_type == "CastLike" and node.inputs[1] is not None and node.inputs[1].dtype is not None:
            node.op_type, kind = "Cast", node.inputs[1].dtype
            node.resize_inputs(1)
            node.attributes["to"] = ir.AttrInt64("to", int(kind))
            self.modified = True
        operands = [self._shape_value(value) for value in node.inputs]
        result = evaluate_shape_op(node, operands) if len(node.outputs) == 1 else None
        if result is not None:
            output = node.outputs[0]
            self._shapes[output] = result
            kind = output.dtype or ir.DataType.INT64
            if result.known:
                self._replace(graph, node, [result.array(kind.numpy())])
                return
        if node.inputs and all(value is None or is_constant(value) for value in node.inputs):
            if self._fold(graph, node):
                return
        elif node.op_type in ("Reshape", "Expand", "ConstantOfShape"):
            self._refine(graph, node, operands)
        elif node.op_type == "Tile" and _repeats_ones(dims_of(node.inputs[0]), operands[1]):
            node.op_type = "Expand"
            self.modified = True
            self.folded.append(f"{node.name}: repeats as a shape")

    def _shape_value(self, value: ir.Value | None) -> ShapeValue | None:
        if value is None:
            return None
        if value not in self._shapes:
            self._shapes[value] = _constant_entries(value)
        return self._shapes[value]

    def _fold(self, graph: ir.Graph, node: ir.Node) -> bool:
        tensors = [None if value is None else value.const_value for value in node.inputs]
        if any(tensor is not None and tensor.dtype == ir.DataType.STRING for tensor in tensors):
            return False
        data, output = tensors[0], node.outputs[0]
        if node.op_type in _LAYOUT and data is not None and data.nbytes > _LAZY_BYTES and len(node.outputs) == 1:
            lazy = _lazy(node, tensors, self.opset)
            if lazy is not None:
                self._replace_with_tensors(graph, node, [lazy])
                return True
        before = sum(tensor.nbytes for tensor in tensors if tensor is not None)
        limit = before + (self.options.resize_limit if node.op_type == "Resize" else self.options.growth_limit)
        expected = _bytes_of(output)
        if expected is not None and expected > limit and node.op_type != "Cast":
            self._skip(node, f"the result would take {expected} bytes, its operands take {before}")
            return False
        results = evaluate(node, [None if tensor is None else tensor.numpy() for tensor in tensors], self.opset)
        if results is None:
            self._skip(node, f"{node.op_type} cannot be evaluated on these types")
            return False
        if sum(array.nbytes for array in results) > limit and node.op_type != "Cast":
            self._skip(node, "the result takes much more room than its operands")
            return False
        self._replace(graph, node, results)
        return True

    def _skip(self, node: ir.Node, reason: str) -> None:
        self.skipped.append(Skip(node.name or node.op_type, reason))

    def _replace(self, graph: ir.Graph, node: ir.Node, arrays: list[np.ndarray[Any, Any]]) -> None:
        kinds = [value.dtype for value in node.outputs]
        tensors = [ir.tensor(np.array(array, order="C"), dtype=kind) for array, kind in zip(arrays, kinds, strict=True)]
        self._replace_with_tensors(graph, node, tensors)

    def _replace_with_tensors(self, graph: ir.Graph, node: ir.Node, tensors: list[Any]) -> None:
        """The node goes; its outputs become initializers of the same names. What the graph returns stays a node's."""
        if any(value.is_graph_output() for value in node.outputs):
            return
        self.modified = True
        self.folded.append(node.name or node.op_type)
        made = []
        for old, tensor in zip(node.outputs, tensors, strict=True):
            value = ir.Value(
                name=old.name, shape=ir.Shape(tensor.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
            )
            tensor.name = old.name
            old.replace_all_uses_with(value)
            made.append(value)
        graph.remove(node, safe=True)
        for value in made:
            if value.name:
                graph.register_initializer(value)

    def _refine(self, graph: ir.Graph, node: ir.Node, operands: list[ShapeValue | None]) -> None:
        """Shapes that follow from a partly known target; a Reshape target with one unknown becomes constant."""
        target = operands[0] if node.op_type == "ConstantOfShape" else operands[1]
        if target is None:
            return
        data, output = dims_of(node.inputs[0]), node.outputs[0]
        if node.op_type == "ConstantOfShape":
            _refine_shape(output, target.entries)
        elif node.op_type == "Expand":
            if data is not None:
                _refine_shape(output, _broadcast(data, target.entries))
        else:
            allow_zero = bool(node.attributes.get_int("allowzero", 0))
            sizes = reshaped(data, target.entries, allow_zero)
            self._learn_names(output, sizes)
            _refine_shape(output, sizes)
            if not is_constant(node.inputs[1]) and not (allow_zero and 0 in target.entries):
                entries = [size if entry == -1 and isinstance(size, int) else entry
                           for entry, size in zip(target.entries, sizes, strict=True)]  # fmt: skip
                self._fix_target(graph, node, data, tuple(entries))

    def _learn_names(self, value: ir.Value, entries: tuple[Entry, ...]) -> None:
        """A name that inference invented for a dimension that has one: those behind bear it too."""
        old = dims_of(value)
        if old is not None and len(old) == len(entries):
            for invented, name in zip(old, entries, strict=True):
                if isinstance(invented, str) and invented.startswith(_INVENTED) and isinstance(name, str):
                    self._names[invented] = name

    def _rename(self, value: ir.Value) -> None:
        dims = dims_of(value) if self._names else None
        if dims is not None and any(entry in self._names for entry in dims):
            value.shape = to_shape([self._names.get(entry, entry) if isinstance(entry, str) else entry
                                    for entry in dims])  # fmt: skip

    def _fix_target(
        self, graph: ir.Graph, node: ir.Node, data: tuple[Entry, ...] | None, target: tuple[Entry, ...]
    ) -> None:
        fixed: list[int] = []
        for index, entry in enumerate(target):
            if isinstance(entry, int):
                fixed.append(entry)
            elif isinstance(entry, str) and data is not None and index < len(data) and data[index] == entry:
                fixed.append(0)
            else:
                fixed.append(-1)
        if fixed.count(-1) > 1:
            return
        key = (id(graph), tuple(fixed))
        if key not in self._targets:
            tensor = ir.tensor(np.asarray(fixed, np.int64), name=f"{node.outputs[0].name}_target")
            value = ir.Value(
                name=tensor.name,
                shape=ir.Shape([len(fixed)]),
                type=ir.TensorType(ir.DataType.INT64),
                const_value=tensor,
            )
            graph.register_initializer(value)
            self._targets[key] = value
        node.replace_input_with(1, self._targets[key])
        node.attributes.pop("allowzero", None)  # a 0 in the new target copies a dimension
        self.modified = True
        self.folded.append(f"{node.name}: target shape")


def _constant_entries(value: ir.Value) -> ShapeValue | None:
    tensor = value.const_value
    if tensor is None or value.is_graph_input() or len(tensor.shape) > 1 or tensor.size > _MAX_SHAPE_ELEMENTS:
        return None
    if tensor.dtype not in (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL):
        return None
    return ShapeValue(tuple(int(item) for item in tensor.numpy().reshape(-1)), len(tensor.shape) == 0)


def _repeats_ones(dims: tuple[Entry, ...] | None, repeats: ShapeValue | None) -> bool:
    """Whether each axis has length 1 or is taken once: then the repeats are the target of an Expand."""
    if dims is None or repeats is None or len(dims) != len(repeats.entries):
        return False
    return all(1 in pair and 0 not in pair for pair in zip(dims, repeats.entries, strict=True))


def _bytes_of(value: ir.Value) -> int | None:
    dims = dims_of(value)
    if dims is None or value.dtype is None or not all(isinstance(size, int) for size in dims):
        return None
    return int(np.prod([size for size in dims if isinstance(size, int)], dtype=np.int64)) * value.dtype.bitwidth // 8


def _refine_shape(value: ir.Value, entries: tuple[Entry, ...]) -> None:
    """Take what is new: integers over names, names over nothing."""
    old = dims_of(value)
    if old is None or len(old) != len(entries):
        value.shape = to_shape(entries)
        return
    value.shape = to_shape([_better(new, before) for new, before in zip(entries, old, strict=True)])


def _better(new: Entry, old: Entry) -> Entry:
    if isinstance(old, int) or new is None:
        return old
    return new


def _broadcast(data: tuple[Entry, ...], target: tuple[Entry, ...]) -> tuple[Entry, ...]:
    size = max(len(data), len(target))
    left = (1,) * (size - len(data)) + data
    right = (1,) * (size - len(target)) + target
    return tuple(a if b == 1 or a == b else b if a == 1 else _known(a, b) for a, b in zip(left, right, strict=True))


def _known(left: Entry, right: Entry) -> Entry:
    return left if isinstance(left, int) else right if isinstance(right, int) else None


def _lazy(node: ir.Node, tensors: list[Any], opset: int) -> ir.LazyTensor | None:
    output, dims = node.outputs[0], dims_of(node.outputs[0])
    if output.dtype is None or dims is None or not all(isinstance(size, int) for size in dims):
        return None
    dtype, source = output.dtype, tensors[0]
    shape = ir.Shape(list(dims))
    order = list(node.attributes["perm"].value) if "perm" in node.attributes else None
    transposed, cast = node.op_type == "Transpose", node.op_type == "Cast"

    def read() -> ir.TensorProtocol:
        array = source.numpy()
        if transposed:
            array = np.ascontiguousarray(np.transpose(array, order))
        elif cast:
            array = array.astype(dtype.numpy())
        return ir.Tensor(array.reshape(tuple(shape.numpy())), dtype=dtype)

    return ir.LazyTensor(read, dtype=dtype, shape=shape)
