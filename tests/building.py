"""Small models from ONNX text, with constants given as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.passes.normalize.infer_shapes import InferShapes
from qcompiler.plan import QuantPlan
from qcompiler.scheme import INT8_ACTIVATION, TensorQuant

Array = np.ndarray[Any, Any]


def build(text: str, opset: int = 21, **constants: Array | np.generic) -> ir.Model:
    """The model `text` describes; values that it reads and never makes become initializers from `constants`.

    Nodes without a name take that of their first output; shapes and types are inferred.
    """
    domains = f'"" : {opset}' + (', "com.microsoft" : 1' if "com.microsoft." in text else "")
    model = ir.from_onnx_text(f"<ir_version: 10, opset_import: [{domains}]>\n{text}")
    for node in model.graph.all_nodes():
        node.name = node.name or str(node.outputs[0].name)
        for value in node.inputs:
            if value is None or value.name not in constants or value.producer() or value.is_initializer():
                continue
            tensor = ir.tensor(np.asarray(constants[value.name]), name=value.name)
            value.const_value, value.type = tensor, ir.TensorType(tensor.dtype)
            value.shape = ir.Shape(tensor.shape.numpy())
            model.graph.register_initializer(value)
    InferShapes().run(model)
    return model


def per_tensor(scale: float) -> TensorQuant:
    """int8 with one scale, as activations have it."""
    return TensorQuant(INT8_ACTIVATION, np.asarray(scale, np.float32))


def activation_plan(scales: dict[str, float], nodes: dict[str, tuple[int, ...]]) -> QuantPlan:
    """A plan that quantizes activations only."""
    return QuantPlan(tensors={name: per_tensor(scale) for name, scale in scales.items()}, nodes=nodes)


def node_named(model: ir.Model, name: str) -> ir.Node:
    """The node called `name`."""
    return next(node for node in model.graph.all_nodes() if node.name == name)


def is_topological(graph: ir.Graph) -> bool:
    """Whether each node stands behind those that it reads."""
    seen: set[ir.Node] = set()
    for node in graph:
        makers = (value.producer() for value in node.inputs if value is not None)
        if any(maker is not None and maker.graph is graph and maker not in seen for maker in makers):
            return False
        seen.add(node)
    return True
