"""A value in another float type: a Cast beside its producer, a second initializer, or a second DequantizeLinear."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer, is_constant, make_node
from qcompiler.passes.precision.limits import HALF_MAX

_SUFFIX: Final = {ir.DataType.FLOAT16: "fp16", ir.DataType.FLOAT: "fp32"}


class Caster:
    """Makes each version of a value once, where the value itself is defined, so that loops cast outside."""

    def __init__(self, model: ir.Model) -> None:
        self.fresh = FreshNames(model)
        self._versions: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def in_type(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """`value` itself where it has that type already, else the version of it that has."""
        if value.dtype == dtype:
            return value
        key = (value, dtype)
        if key not in self._versions:
            self._versions[key] = self._make(value, dtype)
        return self._versions[key]

    def _make(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        name = self.fresh(f"{value.name}_{_SUFFIX[dtype]}")
        graph, producer = value.graph, value.producer()
        assert graph is not None, "a value of a graph"
        if is_constant(value) and producer is None:
            assert value.const_value is not None
            return add_initializer(_graph_of(graph), to_type(value.const_value.numpy(), dtype), name)
        if producer is not None and producer.op_type == "DequantizeLinear" and producer.domain == "":
            codes, scale, *rest = producer.inputs
            assert scale is not None
            made = make_node(
                "DequantizeLinear", [codes, self.in_type(scale, dtype), *rest],
                dict(producer.attributes), output=name, dtype=dtype, shape=value.shape,
            )
        else:
            made = make_node("Cast", [value], {"to": dtype}, output=name, dtype=dtype, shape=value.shape)
        self._place(made, graph, producer)
        return made.outputs[0]

    @staticmethod
    def _place(made: ir.Node, graph: Any, producer: ir.Node | None) -> None:
        if producer is not None:
            graph.insert_after(producer, made)
            return
        first = next(iter(graph), None)
        if first is None:
            graph.append(made)
        else:
            graph.insert_before(first, made)


def _graph_of(graph: Any) -> ir.Graph:
    return graph if isinstance(graph, ir.Graph) else graph.graph


def to_type(array: np.ndarray[Any, Any], dtype: ir.DataType) -> np.ndarray[Any, Any]:
    """The array in that type, rounded to nearest; finite numbers beyond float16 become its largest, infinities stay."""
    if dtype == ir.DataType.FLOAT16 and array.size:
        finite = np.isfinite(array)
        if not finite.all():
            clipped = np.where(finite, np.clip(array, -HALF_MAX, HALF_MAX), array)
            return clipped.astype(np.float16)
        half: np.ndarray[Any, Any] = np.clip(array, -HALF_MAX, HALF_MAX).astype(np.float16)
        return half
    plain: np.ndarray[Any, Any] = array.astype(dtype.numpy())
    return plain
