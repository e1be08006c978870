"""A float64 copy of a graph that onnxruntime runs.

Every float tensor becomes float64; embedding tables stay as they are, with a Cast behind the Gather, which is exact.
Operators without a float64 kernel take one of `double_forms`, or ONNX's own definition, or compute in float32 between
two Casts.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from qcompiler.certification.bound import terms_of
from qcompiler.certification.double_forms import write_in_double_forms
from qcompiler.errors import ModelError
from qcompiler.graph import FreshNames
from qcompiler.passes.normalize.expand_operators import COMPOSITE_OPS, ExpandOperators
from qcompiler.passes.normalize.infer_shapes import InferShapes
from qcompiler.passes.normalize.inline_functions import InlineFunctions
from qcompiler.passes.normalize.lift_constants import LiftConstants
from qcompiler.session import Arrays, Feeds, Session

WIDE: Final = ir.DataType.DOUBLE
_NARROW: Final = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
_DEFINED: Final = COMPOSITE_OPS - {"LayerNormalization"} | {
    "Celu", "Elu", "HardSigmoid", "LeakyRelu", "PRelu", "Selu", "Softplus", "Softsign", "ThresholdedRelu",
}  # fmt: skip
"""Taken apart into ONNX's definition, whose operators have kernels."""
_NARROW_ONLY: Final = frozenset({
    "Atan", "AveragePool", "Conv", "ConvTranspose", "GlobalAveragePool", "GridSample", "InstanceNormalization", "LRN",
    "Mean", "Resize",
})  # fmt: skip
"""Known to lack a float64 kernel where they got no form; others are found by trying."""
_NO_KERNEL = re.compile(r"Could not find an implementation for (\w+)\(\d+\) node")
_TYPE_ATTRIBUTES: Final = ("to", "dtype", "output_dtype")

WideWeights = dict[int, tuple[ir.TensorProtocol, ir.TensorProtocol]]
"""Weights already widened, by the id of the narrow one, which is kept so that its id stays its own."""


@dataclass(frozen=True, slots=True)
class WideSession:
    """A session over the float64 copy.

    Attributes:
        narrow: Operators that compute in float32.
        narrow_terms: Terms that those sum, as `bound.terms_of` counts them.
    """

    session: Session
    narrow: tuple[str, ...]
    narrow_terms: float

    def run(self, feeds: Feeds) -> Arrays:
        """Outputs by name, floats as float64."""
        return self.session.run({name: _wide_array(array) for name, array in feeds.items()})


def wide_session(
    model: ir.Model, extra_outputs: Collection[str] = (), *, weights: WideWeights | None = None, threads: int = 0
) -> WideSession:
    """Widen a clone of `model` and start it.

    Raises:
        ModelError: onnxruntime runs it neither in float64 nor with float32 between Casts.
    """
    narrow = set(_NARROW_ONLY)
    while True:
        wide = _prepared(model)
        left = [node for node in wide.graph.all_nodes() if node.op_type in narrow]
        used, terms = tuple(sorted({node.op_type for node in left})), sum(max(1.0, terms_of(node)) for node in left)
        _widen(wide, narrow, {} if weights is None else weights)
        try:
            session = Session(wide, extra_outputs, threads=threads, optimize=False)  # nothing here gains by fusions
        except ModelError as error:
            lacking = _NO_KERNEL.search(str(error))
            if lacking is None or lacking[1] in narrow:
                raise
            narrow.add(lacking[1])
        else:
            return WideSession(session, used, terms)


def _prepared(model: ir.Model) -> ir.Model:
    """A clone without functions, Constant nodes, composite operators, and what has a form in float64."""
    copy = model.clone()
    InlineFunctions().run(copy)
    LiftConstants().run(copy)
    InferShapes().run(copy)
    expand = ExpandOperators(copy.opset_imports[""], composite_ops=_DEFINED)
    while expand.run(copy).modified:  # definitions use operators that have definitions
        LiftConstants().run(copy)
        InferShapes().run(copy)
    write_in_double_forms(copy)
    return copy


def _widen(model: ir.Model, narrow: Collection[str], weights: WideWeights) -> None:
    """Retype `model` in place."""
    fresh = FreshNames(model)
    single = _tables(model)  # values that stay float32
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.dtype in _NARROW and value not in single and value.const_value is not None:
                value.const_value = _wide_weight(value.const_value, weights)
        for node in list(graph):
            _widen_attributes(node)
            if node.op_type == "Gather" and node.inputs[0] in single:
                single.update(_cast_outputs(graph, node, fresh, node.inputs[0].dtype))
            elif node.op_type in narrow:
                single.update(_cast_inputs(graph, node, fresh, range(len(node.inputs))))
                single.update(_cast_outputs(graph, node, fresh, ir.DataType.FLOAT))
            else:
                slots = _single_slots(node.op_type, node.domain, model.opset_imports)
                single.update(_cast_inputs(graph, node, fresh, slots))
    for graph in model.graphs():
        produced = [value for node in graph for value in node.outputs]
        for value in (*graph.inputs, *graph.initializers.values(), *produced):
            if value not in single and value.dtype in _NARROW:
                value.type = ir.TensorType(WIDE)  # a new object: clones share the old one


def _tables(model: ir.Model) -> set[ir.Value]:
    """Float weights that only Gathers of single rows read."""
    return {
        value
        for value in model.graph.initializers.values()
        if value.dtype in _NARROW and not value.is_graph_input() and not value.is_graph_output() and value.uses()
        and all(use.node.op_type == "Gather" and use.idx == 0 for use in value.uses())
    }  # fmt: skip


def _wide_weight(tensor: ir.TensorProtocol, weights: WideWeights) -> ir.TensorProtocol:
    found = weights.get(id(tensor))
    if found is None:
        found = weights[id(tensor)] = tensor, ir.tensor(tensor.numpy().astype(np.float64), name=tensor.name)
    return found[1]


def _widen_attributes(node: ir.Node) -> None:
    for name, attribute in list(node.attributes.items()):
        if attribute.is_ref():
            continue
        if name in _TYPE_ATTRIBUTES and attribute.type == ir.AttributeType.INT and attribute.value in _NARROW:
            node.attributes[name] = ir.AttrInt64(name, int(WIDE))
        elif attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype in _NARROW:
            wide = ir.tensor(attribute.as_tensor().numpy().astype(np.float64))
            node.attributes[name] = ir.AttrTensor(name, wide)
    if node.op_type == "ConstantOfShape" and "value" not in node.attributes:
        node.attributes["value"] = ir.AttrTensor("value", ir.tensor(np.zeros(1)))


def _cast_inputs(graph: ir.Graph, node: ir.Node, fresh: FreshNames, indices: Collection[int]) -> list[ir.Value]:
    """The node reads float32; returns what it reads."""
    casts = []
    for index in indices:
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is None or value.dtype not in (*_NARROW, WIDE):
            continue
        made = _cast(value, ir.DataType.FLOAT, fresh)
        graph.insert_before(node, made)
        node.replace_input_with(index, made.outputs[0])
        casts.append(made.outputs[0])
    return casts


def _cast_outputs(
    graph: ir.Graph, node: ir.Node, fresh: FreshNames, dtype: ir.DataType | None
) -> list[ir.Value]:
    """The node's float outputs, which get other names; a Cast behind each takes the old one."""
    found = []
    for value in node.outputs:
        if value.dtype not in (*_NARROW, WIDE):
            continue
        name = str(value.name)
        uses = tuple(value.uses())
        value.name = fresh(f"{name}_narrow")
        value.type = None if dtype is None else ir.TensorType(dtype)
        made = _cast(value, WIDE, fresh)
        made.outputs[0].name = name
        graph.insert_after(node, made)
        for use in uses:
            use.node.replace_input_with(use.idx, made.outputs[0])
        for index, output in enumerate(graph.outputs):
            if output is value:
                made.outputs[0].shape = value.shape
                graph.outputs[index] = made.outputs[0]
        found.append(value)
    return found


def _cast(value: ir.Value, dtype: ir.DataType, fresh: FreshNames) -> ir.Node:
    name = fresh(f"{value.name}_cast")
    made = ir.node("Cast", [value], {"to": int(dtype)}, num_outputs=1, name=name)
    made.outputs[0].name, made.outputs[0].type = name, ir.TensorType(dtype)
    return made


@cache
def _slots(op_type: str, domain: str, opset: int) -> tuple[int, ...]:
    import onnx

    try:
        schema = onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return ()
    return tuple(place for place, item in enumerate(schema.inputs) if item.type_str == "tensor(float)")


def _single_slots(op_type: str, domain: str, opsets: dict[str, int]) -> tuple[int, ...]:
    """Inputs that are float32 whatever the others are, such as the scales of Resize."""
    return _slots(op_type, domain, opsets.get(domain, 1))


def _wide_array(array: Any) -> Any:
    return array.astype(np.float64) if array.dtype in (np.float16, np.float32) else array
