"""Operators that the target lacks become the nodes that ONNX defines them by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import onnx_ir as ir

from qcompiler.graph import all_nodes
from qcompiler.passes.normalize.opset_steps import convert_nodes, find_schema
from qcompiler.pipeline import Outcome, Pass, Skip

if TYPE_CHECKING:
    import onnx

COMPOSITE_OPS = frozenset(
    {
        "Attention",
        "Gelu",
        "GroupNormalization",
        "HardSwish",
        "LayerNormalization",
        "MeanVarianceNormalization",
        "Mish",
        "RMSNormalization",
        "RotaryEmbedding",
        "Swish",
    }
)
"""Operators that stand for several others; kept only where `native_ops` lists them."""

_DOMAIN = "qcompile.expanded"


@dataclass(frozen=True)
class ExpandOperators(Pass):
    """A composite operator becomes its definition in ONNX where the target does not take it.

    Taken apart are the members of `composite_ops` that are not native, and every operator that has a definition and
    does not exist in the target's opset. Needs types on the operands (`infer-shapes`).
    """

    name: ClassVar[str] = "expand-operators"
    opset: int = 19
    native_ops: frozenset[str] = frozenset()
    composite_ops: frozenset[str] = field(default=COMPOSITE_OPS, repr=False)

    def run(self, model: ir.Model) -> Outcome:
        source = model.opset_imports[""]
        expanded: list[str] = []
        skipped: list[Skip] = []
        for node in list(all_nodes(model)):
            if node.domain != "" or not self._unwanted(node, source):
                continue
            function = _definition(node, source, len(expanded))
            where = node.name or node.op_type
            if function is None:
                skipped.append(Skip(where, f"ONNX has no definition of {node.op_type} for these operands"))
                continue
            model.functions[function.identifier()] = function
            node.domain, node.op_type = _DOMAIN, function.name
            expanded.append(where)
        if expanded:
            from onnx_ir.passes.common import InlinePass

            model.opset_imports[_DOMAIN] = 1
            InlinePass()(model)
            model.functions.clear()
            del model.opset_imports[_DOMAIN]
        return Outcome(bool(expanded), tuple(expanded), tuple(skipped))

    def _unwanted(self, node: ir.Node, source: int) -> bool:
        lacking = find_schema(node.op_type, self.opset) is None and find_schema(node.op_type, source) is not None
        return lacking or (node.op_type in self.composite_ops and node.op_type not in self.native_ops)


def _definition(node: ir.Node, opset: int, number: int) -> ir.Function | None:
    """The function body for this node's operands and attributes, converted to `opset`; None where ONNX has none."""
    import onnx

    # GroupNormalization of opset 18 is deprecated, and still defined; onnx's stubs lack the methods used here
    schema: Any = find_schema(node.op_type, opset, deprecated=True)
    if schema is None:
        return None
    plain = [version for version in schema.function_opset_versions if version <= opset]
    by_context = [version for version in schema.context_dependent_function_opset_versions if version <= opset]
    if by_context:
        version = max(by_context)
        types = [_type_of(value).SerializeToString() for value in node.inputs]
        try:
            data = schema.get_context_dependent_function_with_opset_version(
                version, ir.to_proto(node).SerializeToString(), types
            )
        except Exception:  # the builder gives up on operand types that it does not know
            return None
    elif plain:
        version = max(plain)
        data = schema.get_function_with_opset_version(version)
        _spell_out_defaults(node, schema)
    else:
        return None
    if not data:
        return None
    proto = onnx.FunctionProto.FromString(data)
    proto.domain, proto.name = _DOMAIN, f"{node.op_type}_{number}"
    produced = {name for item in proto.node for name in item.output}
    returned = [name for name in proto.output[: len(node.outputs)] if name in produced]
    if any(value.uses() or value.is_graph_output() for value in node.outputs[len(returned) :]):
        return None  # an optional output that the definition leaves out
    del proto.output[:]
    proto.output.extend(returned)
    node.resize_outputs(len(returned))
    function = ir.serde.deserialize_function(proto)
    body = function.opset_imports.get("", version)
    if body < opset:
        convert_nodes(function, body, opset)
    function.opset_imports[""] = opset
    return function


def _type_of(value: ir.Value | None) -> onnx.TypeProto:
    import onnx

    return onnx.TypeProto() if value is None else ir.serde.serialize_value(value).type


def _spell_out_defaults(node: ir.Node, schema: onnx.defs.OpSchema) -> None:
    for name, attribute in schema.attributes.items():
        if name not in node.attributes and attribute.default_value.name:
            node.attributes[name] = ir.serde.deserialize_attribute(attribute.default_value)
