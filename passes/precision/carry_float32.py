"""Carry a float16 graph in float32, so that calibration, rewrites and integer kernels see one float type.

Weights, constants and inner values become float32 (exactly: every float16 number is a float32 number). Graph inputs
and outputs keep float16, with a Cast behind each input and in front of each output. Where a target's carrier is
float16, `carry-float16` makes it so again at the end, and these Casts go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import onnx_ir as ir

from qcompiler.errors import UnsupportedError
from qcompiler.graph import FreshNames, make_node
from qcompiler.pipeline import Outcome, Pass

HALF: Final = ir.DataType.FLOAT16
FLOAT: Final = ir.DataType.FLOAT
_TYPE_ATTRIBUTES: Final = frozenset({"to", "dtype", "output_dtype", "output_datatype", "softmax_precision"})


@dataclass(frozen=True)
class CarryFloat32(Pass):
    """See the module. A model without float16 is left as it is; of functions nothing is read: inline them first."""

    name: ClassVar[str] = "carry-float32"
    keeps_float: ClassVar[bool] = False  # it removes float16's rounding

    def run(self, model: ir.Model) -> Outcome:
        inputs = [value for value in model.graph.inputs if value.dtype == HALF]
        outputs = [value for value in model.graph.outputs if value.dtype == HALF]
        returned = {value.producer() for value in outputs if _is_returning_cast(value.producer())}
        fresh = FreshNames(model)
        nodes = [node for node in model.graph.all_nodes() if node not in returned]
        changed = [str(node.name) for node in nodes if _widen_attributes(node)]
        for graph in model.graphs():
            for value in list(graph.initializers.values()):
                if value.dtype == HALF and not (graph is model.graph and value.is_graph_input()):
                    value.const_value = _widened(value.const_value)
                    changed.append(str(value.name))
                    _widen_type(value)
            if graph is not model.graph:
                changed += [str(value.name) for value in graph.inputs if _widen_type(value)]
        changed += [str(value.name) for node in nodes for value in node.outputs if _widen_type(value)]
        changed += [str(value.name) for value in inputs if _cast_input(model.graph, value, fresh)]
        for value in dict.fromkeys(outputs):
            if not value.is_graph_input() and value.producer() not in returned:
                _cast_output(model.graph, value, fresh)
        return Outcome(bool(changed), tuple(changed))


def refuse_bfloat16(model: ir.Model) -> None:
    """UnsupportedError naming the first bfloat16 input, weight or inner value: no kernels exist to verify against."""
    for graph in model.graphs():
        computed = (value for node in graph for value in node.outputs)
        for value in (*graph.inputs, *graph.initializers.values(), *computed):
            producer = value.producer()
            to = producer.attributes.get_int("to", 0) if producer is not None and producer.op_type == "Cast" else 0
            if value.dtype == ir.DataType.BFLOAT16 or to == ir.DataType.BFLOAT16:
                raise UnsupportedError(
                    "bfloat16 is not supported", where=f"tensor {value.name!r}",
                    hint="export the model in float32 or float16",
                )  # fmt: skip


def _is_returning_cast(node: ir.Node | None) -> bool:
    """A Cast from float32 in front of a float16 output: as this pass makes them."""
    return node is not None and node.op_type == "Cast" and node.inputs[0] is not None and node.inputs[0].dtype == FLOAT


def _widen_attributes(node: ir.Node) -> bool:
    """Types that attributes name, and tensors that they hold."""
    changed = False
    for name, attribute in list(node.attributes.items()):
        if attribute.is_ref():
            continue
        if name in _TYPE_ATTRIBUTES and attribute.type == ir.AttributeType.INT and attribute.value == HALF:
            node.attributes[name] = ir.AttrInt64(name, int(FLOAT))
            changed = True
        elif attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype == HALF:
            node.attributes[name] = ir.AttrTensor(name, ir.tensor(attribute.as_tensor().numpy().astype(np.float32)))
            changed = True
    return changed


def _widened(tensor: ir.TensorProtocol | None) -> ir.TensorProtocol | None:
    """The tensor in float32; external weights stay on disk until they are read."""
    if isinstance(tensor, ir.ExternalTensor):
        return ir.LazyTensor(
            lambda: ir.tensor(tensor.numpy().astype(np.float32)), dtype=FLOAT,
            shape=ir.Shape(tensor.shape.numpy()), name=tensor.name,
        )  # fmt: skip
    return None if tensor is None else ir.tensor(tensor.numpy().astype(np.float32), name=tensor.name)


def _widen_type(value: ir.Value) -> bool:
    """Tensor, sequence and optional types alike; by a new object, since clones share the old one."""
    widened = _float32_type(value.type)
    if widened is value.type:
        return False
    value.type = widened
    return True


def _float32_type(kind: ir.TypeProtocol | None) -> ir.TypeProtocol | None:
    if isinstance(kind, ir.TensorType):
        return ir.TensorType(FLOAT) if kind.dtype == HALF else kind
    if isinstance(kind, (ir.SequenceType, ir.OptionalType)):
        inner = _float32_type(kind.elem_type)
        return kind if inner is kind.elem_type or inner is None else type(kind)(inner)
    return kind


def _cast_input(graph: ir.Graph, value: ir.Value, fresh: FreshNames) -> bool:
    """x, float16 -> Cast -> every reader; an output that is x itself stays x. False where only such Casts read x."""
    uses = tuple(value.uses())
    if all(use.node.op_type == "Cast" for use in uses):
        return False
    name = fresh(f"{value.name}_fp32")
    made = make_node("Cast", [value], {"to": int(FLOAT)}, output=name, dtype=FLOAT, shape=value.shape)
    graph.insert_before(graph[0], made)
    for use in uses:
        use.node.replace_input_with(use.idx, made.outputs[0])
    return True


def _cast_output(graph: ir.Graph, value: ir.Value, fresh: FreshNames) -> None:
    """The output keeps its name and float16; what was it has a name of its own."""
    name = str(value.name)
    value.name = fresh(f"{name}_fp32")
    made = make_node("Cast", [value], {"to": int(HALF)}, output=name, dtype=HALF, shape=value.shape,
                     name=fresh(f"{name}_fp16"))  # fmt: skip
    graph.append(made)
    for index, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[index] = made.outputs[0]
