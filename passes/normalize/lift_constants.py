"""Constant nodes become initializers of the graph that holds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.diagnostics import Diagnostic, Severity
from qcompiler.errors import ModelError
from qcompiler.graph import FreshNames
from qcompiler.pipeline import Outcome, Pass

_ELEMENTS: dict[str, Callable[[Any], np.ndarray[Any, Any]]] = {
    "value_int": lambda value: np.asarray(value, np.int64),
    "value_ints": lambda value: np.asarray(value, np.int64).reshape(-1),
    "value_float": lambda value: np.asarray(value, np.float32),
    "value_floats": lambda value: np.asarray(value, np.float32).reshape(-1),
}


@dataclass(frozen=True)
class LiftConstants(Pass):
    """Constant<value=t>() becomes an initializer t, in subgraphs too, in every form that Constant has.

    Initializers that are listed as graph inputs too are taken as the constants that they nearly always are, and leave
    the list. Before IR version 4 all had to be listed; from then on it says that callers may replace them: QC403.
    A Constant that the graph returns stays: an output must have a producer for runtimes to keep its name.

    Raises:
        ModelError: A Constant without a value.
    """

    name: ClassVar[str] = "lift-constants"

    def run(self, model: ir.Model) -> Outcome:
        lifted = _unlist_weights(model)
        findings: tuple[Diagnostic, ...] = ()
        if lifted and model.ir_version >= 4:
            listed = ", ".join(lifted[:3]) + (", ..." if len(lifted) > 3 else "")
            message = f"{len(lifted)} inputs with a default are taken as constants: {listed}"
            hint = "where callers do feed them, remove their initializers"
            findings = (Diagnostic("QC403", Severity.WARNING, lifted[0], message, hint),)
        fresh: FreshNames | None = None
        for graph in model.graphs():
            for node in graph:
                if (
                    node.op_type != "Constant"
                    or node.domain not in ("", "ai.onnx")
                    or node.outputs[0].is_graph_output()
                ):
                    continue
                tensor = _tensor_of(node)
                if tensor is None:
                    continue
                old = node.outputs[0]
                if not old.name:
                    fresh = fresh or FreshNames(model)
                    old.name = fresh("constant")
                value = ir.Value(
                    name=old.name,
                    shape=ir.Shape(tensor.shape.numpy()),
                    type=ir.TensorType(tensor.dtype),
                    const_value=tensor,
                )
                old.replace_all_uses_with(value)
                graph.remove(node, safe=True)
                graph.register_initializer(value)
                lifted.append(str(value.name))
        return Outcome(bool(lifted), tuple(lifted), diagnostics=findings)


def _unlist_weights(model: ir.Model) -> list[str]:
    graph = model.graph
    listed = [value for value in graph.inputs if value.name in graph.initializers]
    for value in listed:
        graph.inputs.remove(value)
    return [str(value.name) for value in listed]


def _tensor_of(node: ir.Node) -> ir.TensorProtocol | None:
    """The content; None for strings and sparse tensors, which stay nodes."""
    for name, attribute in node.attributes.items():
        if name == "value":
            return attribute.as_tensor()
        if name in _ELEMENTS:
            return ir.tensor(_ELEMENTS[name](attribute.value))
        if name in ("value_string", "value_strings", "sparse_value"):
            return None
    raise ModelError(
        "a Constant without a value", where=node.name or node.outputs[0].name, hint="export the model again"
    )
