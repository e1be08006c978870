"""A layer with a constant weight as rows @ matrix: what each of its outputs sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.graph import constant_array
from qcompiler.plan import QuantPlan
from qcompiler.scheme import FloatArray, PerAxis, PerBlock, TensorQuant

Array = npt.NDArray[Any]
WEIGHT = 1


@dataclass(frozen=True, slots=True)
class WeightedSum:
    """A MatMul, Gemm or Conv of one group.

    Attributes:
        tensor: What it reads.
        quant: Of its weight.
        inputs: Products that one output sums.
    """

    node: ir.Node
    tensor: str
    quant: TensorQuant
    inputs: int

    @property
    def window(self) -> tuple[Any, ...]:
        """Layers of one tensor whose windows are equal sum the same rows."""
        if self.node.op_type != "Conv":
            return (self.tensor,)
        return (self.tensor, self._weight().shape[2:], *self._geometry())

    def matrix(self) -> Array:
        """The weight as [inputs, outputs]."""
        return self._as_matrix(self._weight())

    def scale(self) -> FloatArray:
        """In a shape that broadcasts against the matrix, its first axis 1 or the inputs."""
        granularity = self.quant.scheme.granularity
        if isinstance(granularity, PerBlock):
            return self._as_matrix(np.repeat(self.quant.scale, granularity.size, axis=granularity.axis))
        return self.quant.scale.reshape(1, -1)

    def weight(self, matrix: Array) -> Array:
        """[inputs, outputs] in the shape of the weight."""
        shape = self._weight().shape
        return np.ascontiguousarray(matrix if self._outputs_last() else matrix.T).reshape(shape)

    def rows(self, array: Array, count: int) -> Array:
        """At most so many rows [rows, inputs] of what the layer reads, evenly taken."""
        if self.node.op_type != "Conv":
            rows = array.reshape(-1, self.inputs)
            return rows[_even(len(rows), count)]
        strides, dilations, pads = self._geometry()
        dims, kernel = array.ndim - 2, self._weight().shape[2:]
        padded = np.pad(array, [(0, 0), (0, 0), *zip(pads[:dims], pads[dims:], strict=True)])
        reach = tuple((size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True))
        view: Array = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=tuple(range(2, dims + 2)))
        steps = [1, 1, *strides, *dilations]
        view = np.moveaxis(view[tuple(slice(None, None, step) for step in steps)], 1, dims + 1)
        places = np.unravel_index(_even(int(np.prod(view.shape[: dims + 1])), count), view.shape[: dims + 1])
        return view[places].reshape(-1, self.inputs)

    def partners(self) -> list[npt.NDArray[np.int64]]:
        """Of each input the other that kernels add in 16 bits with it, -1 for none, in each order that they take."""
        positions = int(np.prod(self._weight().shape[2:])) if self.node.op_type == "Conv" else 1
        plain = np.arange(self.inputs)
        orders = [plain]
        if positions > 1:  # as `numerics.unfolded`: channels last, and by position
            orders.append(plain.reshape(-1, positions).T.reshape(-1))
        found = [_neighbours(order, self.inputs) for order in orders]
        if positions > 1:
            channels = np.where((other := plain // positions ^ 1) < self.inputs // positions, other, -1)
            found.append(np.where(channels < 0, -1, channels * positions + plain % positions))
        return found

    def _weight(self) -> Array:
        array = constant_array(self.node.inputs[WEIGHT])
        assert array is not None
        return array

    def _outputs_last(self) -> bool:
        transposed = self.node.op_type == "Gemm" and self.node.attributes.get_int("transB")
        return self.node.op_type != "Conv" and not transposed

    def _as_matrix(self, array: Array) -> Array:
        return array if self._outputs_last() else array.reshape(array.shape[0], -1).T

    def _geometry(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Strides, dilations and pads of a Conv."""
        dims, attributes = self._weight().ndim - 2, self.node.attributes
        ones = [1] * dims
        return (
            tuple(attributes.get_ints("strides", ones)),
            tuple(attributes.get_ints("dilations", ones)),
            tuple(attributes.get_ints("pads", [0] * (2 * dims))),
        )


def weighted_sum(node: ir.Node, plan: QuantPlan, largest: int) -> WeightedSum | str:
    """The layer in this form, or why it has none.

    Args:
        largest: Inputs beyond which the matrix of their second moments is too large.
    """
    quants, value = plan.weights[str(node.name)], node.inputs[0]
    weight = node.inputs[WEIGHT] if WEIGHT in quants else None
    array = constant_array(weight)
    if array is None or weight is None or value is None:
        return "its weight is not the second input"
    if node.op_type not in ("MatMul", "Gemm", "Conv"):
        return f"a {node.op_type}"
    if len(weight.uses()) > 1:
        return "others share its weight"
    if node.op_type == "Conv":
        if node.attributes.get_int("group", 1) != 1:
            return "a Conv in groups"
        if node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
            return "a Conv that pads by itself"
        inputs = int(np.prod(array.shape[1:]))
    elif array.ndim != 2:
        return "a stack of matrices"
    else:
        inputs = array.shape[1 if node.op_type == "Gemm" and node.attributes.get_int("transB") else 0]
    quant = quants[WEIGHT]
    if not isinstance(quant.scheme.granularity, PerAxis | PerBlock):
        return "its weight has one scale"
    if inputs > largest:
        return f"it sums {inputs} products, more than {largest}"
    return WeightedSum(node, str(value.name), quant, inputs)


def _even(rows: int, count: int) -> npt.NDArray[np.int64]:
    return np.linspace(0, rows - 1, min(rows, count)).astype(np.int64)


def _neighbours(order: npt.NDArray[np.int64], inputs: int) -> npt.NDArray[np.int64]:
    """Of each input the other of its pair 2i, 2i + 1 in `order`."""
    found = np.full(inputs, -1)
    even, odd = order[0 : inputs // 2 * 2 : 2], order[1::2]
    found[even], found[odd] = odd, even
    return found
