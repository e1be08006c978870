"""Operators without a float64 kernel in onnxruntime, written as nodes that have one.

Conv becomes a sum of MatMuls, one for each place of its kernel; GlobalAveragePool a mean; Erf a polynomial that is
exact to about 1e-15. The outputs keep their names.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, add_initializer, constant_array

_FAR = 6.0
"""erf(x) is 1 to the last bit of float64 from here on."""
_DEGREE = 24
_END = np.iinfo(np.int64).max
_MOST_GROUPS = 64
_OLDEST = 13
"""Opset from which the nodes made here are written as they are."""
_SHARED = 16
"""Elements up to which equal constants are one."""


def write_in_double_forms(model: ir.Model) -> None:
    """Replace what has no float64 kernel, as far as it has a form here; weights become float64 where they are used."""
    fresh = FreshNames(model)
    opset = model.opset_imports.get("", 1)
    if opset < _OLDEST:
        return
    for graph in model.graphs():
        constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}
        for node in list(graph):
            form = _FORMS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
            if form is not None:
                builder = _Builder(graph, node, fresh, constants, opset)
                result = form(builder, node)
                if result is not None:
                    builder.put(result)


class _Builder:
    """Nodes in place of one node, inserted once the form is complete; small constants are shared by the graph."""

    def __init__(
        self, graph: ir.Graph, node: ir.Node, fresh: FreshNames,
        constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value], opset: int,
    ) -> None:  # fmt: skip
        self.opset = opset
        self.graph, self.node, self.fresh, self.constants = graph, node, fresh, constants
        self.nodes: list[ir.Node] = []

    def op(self, op_type: str, *inputs: ir.Value | np.ndarray[Any, Any] | float | None, **attributes: Any) -> ir.Value:
        """A node's only output; arrays and numbers become initializers."""
        values = [item if item is None or isinstance(item, ir.Value) else self._constant(item) for item in inputs]
        name = self.fresh(f"{self.node.outputs[0].name}_{op_type.lower()}")
        made = ir.node(op_type, values, attributes, num_outputs=1, name=name)
        made.outputs[0].name = name
        self.nodes.append(made)
        return made.outputs[0]

    def _constant(self, content: np.ndarray[Any, Any] | float) -> ir.Value:
        array = np.asarray(content, None if isinstance(content, np.ndarray) else np.float64)
        if array.size > _SHARED:
            return add_initializer(self.graph, array, self.fresh(f"{self.node.outputs[0].name}_constant"))
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self.constants:
            self.constants[key] = add_initializer(self.graph, array, self.fresh("small_constant"))
        return self.constants[key]

    def put(self, result: ir.Value) -> None:
        """The new nodes for the old one."""
        old, name = self.node.outputs[0], self.node.outputs[0].name
        self.graph.insert_before(self.node, self.nodes)
        for index, output in enumerate(self.graph.outputs):
            if output is old:
                self.graph.outputs[index] = result
        old.replace_all_uses_with(result)
        result.type = old.type
        self.graph.remove(self.node, safe=True)
        result.name = name


def _erf(make: _Builder, node: ir.Node) -> ir.Value:
    """sign(x) (1 - t exp(P(t) - x^2)), t = 2 / (2 + |x|), P interpolated in Chebyshev points."""
    x = node.inputs[0]
    size = make.op("Min", make.op("Abs", x), _FAR)
    t = make.op("Div", 2.0, make.op("Add", size, 2.0))
    low = 2.0 / (2.0 + _FAR)
    u = make.op("Div", make.op("Sub", t, (1 + low) / 2), (1 - low) / 2)
    *others, highest = _erf_polynomial()
    power = make.op("Mul", u, highest)
    for coefficient in reversed(others[1:]):
        power = make.op("Mul", u, make.op("Add", power, coefficient))
    exponent = make.op("Sub", make.op("Add", power, others[0]), make.op("Mul", size, size))
    return make.op("Mul", make.op("Sign", x), make.op("Sub", 1.0, make.op("Mul", t, make.op("Exp", exponent))))


@cache
def _erf_polynomial() -> tuple[float, ...]:
    """Coefficients, lowest first, of log(erfc(x) / t) + x^2 in u, which runs over [-1, 1] as t does over its range."""
    low = 2.0 / (2.0 + _FAR)

    points = np.polynomial.chebyshev.chebpts1(_DEGREE + 1)
    wanted = []
    for u in points.tolist():
        t = u * (1 - low) / 2 + (1 + low) / 2
        x = 2 / t - 2
        wanted.append(math.log(math.erfc(x) / t) + x * x)
    series = np.polynomial.chebyshev.chebfit(points, np.array(wanted), _DEGREE)
    return tuple(float(item) for item in np.polynomial.chebyshev.cheb2poly(series))


def _conv(make: _Builder, node: ir.Node) -> ir.Value | None:
    """sum over places of the kernel: x at that place, channels last, times the weights there."""
    weight = constant_array(node.inputs[1])
    if weight is None or node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    groups, kernel = node.attributes.get_int("group", 1), weight.shape[2:]
    if groups > _MOST_GROUPS and weight.shape[1] > 1:
        return None
    rank = len(kernel)
    places = _Places(make, node, kernel, node.inputs[0])
    total: ir.Value | None = None
    for place in itertools.product(*(range(size) for size in kernel)):
        index: tuple[Any, ...] = (slice(None), slice(None), *place)
        wide = weight[index].astype(np.float64)  # [outputs, inputs of a group]
        part = _grouped(make, places.at(place), wide, groups)
        total = part if total is None else make.op("Add", total, part)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None:
        total = make.op("Add", total, bias)
    return make.op("Transpose", total, perm=[0, rank + 1, *range(1, rank + 1)])


def _grouped(make: _Builder, data: ir.Value, weight: np.ndarray[Any, Any], groups: int) -> ir.Value:
    """[..., groups * inputs] times [outputs, inputs] by group."""
    outputs, inputs = weight.shape
    if groups == 1:
        return make.op("MatMul", data, np.ascontiguousarray(weight.T))
    if inputs == 1 and outputs == groups:
        return make.op("Mul", data, weight[:, 0].copy())
    parts = []
    for group in range(groups):
        chosen = np.arange(group * inputs, (group + 1) * inputs)
        rows = weight[group * outputs // groups : (group + 1) * outputs // groups]
        parts.append(make.op("MatMul", make.op("Gather", data, chosen, axis=-1), np.ascontiguousarray(rows.T)))
    return make.op("Concat", *parts, axis=-1)


def _average_pool(make: _Builder, node: ir.Node) -> ir.Value | None:
    """The mean over places of the kernel, where every place counts."""
    attributes = node.attributes
    kernel = tuple(attributes["kernel_shape"].as_ints())
    padded = any(attributes["pads"].as_ints()) if "pads" in attributes else False
    if attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    if attributes.get_int("ceil_mode", 0) != 0:
        return None
    if padded and attributes.get_int("count_include_pad", 0) == 0:
        return None
    places = _Places(make, node, kernel, node.inputs[0])
    total: ir.Value | None = None
    for place in itertools.product(*(range(size) for size in kernel)):
        part = places.at(place)
        total = part if total is None else make.op("Add", total, part)
    rank = len(kernel)
    mean = make.op("Div", total, float(math.prod(kernel)))
    return make.op("Transpose", mean, perm=[0, rank + 1, *range(1, rank + 1)])


class _Places:
    """x padded, channels last, and what each place of a kernel sees of it."""

    def __init__(self, make: _Builder, node: ir.Node, kernel: tuple[int, ...], data: ir.Value | None) -> None:
        rank = len(kernel)
        self.make, self.kernel = make, kernel
        self.strides = _ints(node, "strides", rank, 1)
        self.dilations = _ints(node, "dilations", rank, 1)
        pads = _ints(node, "pads", 2 * rank, 0)
        if any(pads):
            data = make.op("Pad", data, np.array([0, 0, *pads[:rank], 0, 0, *pads[rank:]], np.int64))
        self.data = make.op("Transpose", data, perm=[0, *range(2, rank + 2), 1])

    def at(self, place: tuple[int, ...]) -> ir.Value:
        """[N, output sizes, C]."""
        if all(size == 1 for size in (*self.kernel, *self.strides)):
            return self.data
        starts = [at * step for at, step in zip(place, self.dilations, strict=True)]
        behind = [step * (size - 1) - start
                  for step, size, start in zip(self.dilations, self.kernel, starts, strict=True)]  # fmt: skip
        ends = [-item if item else _END for item in behind]
        axes = range(1, len(place) + 1)
        operands = (np.array(item, np.int64) for item in (starts, ends, axes, self.strides))
        return self.make.op("Slice", self.data, *operands)


def _ints(node: ir.Node, name: str, count: int, default: int) -> list[int]:
    attribute = node.attributes.get(name)
    return [default] * count if attribute is None else list(attribute.as_ints())


def _global_average_pool(make: _Builder, node: ir.Node) -> ir.Value | None:
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None:
        return None
    axes = np.arange(2, len(shape), dtype=np.int64)
    if make.opset < 18:
        return make.op("ReduceMean", node.inputs[0], axes=axes.tolist(), keepdims=1)
    return make.op("ReduceMean", node.inputs[0], axes, keepdims=1)


_FORMS: dict[str, Callable[[_Builder, ir.Node], ir.Value | None]] = {
    "Erf": _erf, "Conv": _conv, "AveragePool": _average_pool, "GlobalAveragePool": _global_average_pool,
}  # fmt: skip
