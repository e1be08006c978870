"""Types and shapes on every value, symbolic dimensions kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import onnx_ir as ir

from qcompiler.diagnostics import Diagnostic, Severity
from qcompiler.pipeline import Outcome, Pass

if TYPE_CHECKING:
    import onnx

_LIKE_FIRST_INPUT = ("GroupNormalization",)
"""Operators whose schema in ONNX has no inference; to it they are shown as Identity."""
_DATA_BYTES = 1024  # shape operands are read by inference, weights are not


@dataclass(frozen=True)
class InferShapes(Pass):
    """Every value gets its type and shape from ONNX's inference, with propagation of shape data.

    What the file says of inner values and of outputs is not trusted where inference knows better: exporters write
    names of one tensor's dimensions on another. It is kept where inference knows nothing. Weights are never
    serialized, so any size goes; names must be unique (`name-everything`). Operands that contradict each other give the
    warning QC101; whether the model runs all the same is the runtime's word.
    """

    name: ClassVar[str] = "infer-shapes"

    def run(self, model: ir.Model) -> Outcome:
        import onnx

        proto = _skeleton(model)
        findings: tuple[Diagnostic, ...] = ()
        try:
            inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
        except Exception as error:  # InferenceError, and plain RuntimeError from inner checks
            line = " ".join(str(error).split())[:300]
            findings = (
                Diagnostic("QC101", Severity.WARNING, "", f"shapes do not fit: {line}", "export the model again"),
            )
            inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
        known = {item.name: item for graph in _graphs(inferred.graph) for item in (*graph.value_info, *graph.output)}
        main_inputs = {id(value) for value in model.graph.inputs}
        changed = False
        for graph in model.graphs():
            values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
            for value in values:
                if id(value) not in main_inputs and value.name in known:
                    changed |= _take(value, known[value.name])
        return Outcome(changed, diagnostics=findings)


def _skeleton(model: ir.Model) -> onnx.ModelProto:
    """The model without weights and without claims on inner shapes."""
    weights = {
        value: value.const_value
        for graph in model.graphs()
        for value in graph.initializers.values()
        if value.const_value is not None and value.const_value.nbytes > _DATA_BYTES
    }
    try:
        for value, tensor in weights.items():
            shape = ir.Shape(tensor.shape.numpy())
            value.const_value = ir.ExternalTensor(
                "", 0, tensor.nbytes, tensor.dtype, shape=shape, name=value.name or ""
            )
        proto: onnx.ModelProto = ir.to_proto(model)
    finally:
        for value, tensor in weights.items():
            value.const_value = tensor
    outer = {item.name: item for item in proto.graph.initializer if item.data_location == item.DEFAULT}
    for inner in _graphs(proto.graph):
        del inner.value_info[:]
        if inner is not proto.graph:
            _show_constants(inner, outer)
        for node in inner.node:
            if node.op_type in _LIKE_FIRST_INPUT and node.domain in ("", "ai.onnx"):
                node.op_type = "Identity"
                del node.input[1:], node.attribute[:]
        for output in inner.output:
            if output.type.HasField("tensor_type"):
                output.type.tensor_type.ClearField("shape")
    return proto


def _show_constants(body: onnx.GraphProto, outer: dict[str, onnx.TensorProto]) -> None:
    """Inference reads the axes and targets of a body's nodes among the body's own constants only."""
    own = {item.name for item in body.initializer}
    read = {name for node in body.node for name in node.input if name in outer and name not in own}
    body.initializer.extend(outer[name] for name in sorted(read) if outer[name].data_type == outer[name].INT64)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
                yield from _graphs(inner)


def _take(value: ir.Value, info: onnx.ValueInfoProto) -> bool:
    kind = ir.serde.deserialize_type_proto_for_type(info.type)
    shape = ir.serde.deserialize_type_proto_for_shape(info.type)
    changed = False
    if kind is not None and value.type != kind:
        value.type, changed = kind, True
    if shape is not None and value.shape != shape:
        value.shape, changed = shape, True
    return changed
