"""What a site is: a tensor whose channels may be shifted and scaled, what makes it and what reads it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.graph import constant_array

Channels = npt.NDArray[np.int64]
Reals = npt.NDArray[np.floating[Any]]


class Kind(str, Enum):
    """What stands around the tensor.

    NORM: a norm, read by layers. VALUE: the values of attention, mixed by softmax, read by the output projection.
    GATED: the product of a gate and an up projection, read by the down projection. RELU: a plain MLP. ACTIVATION: GELU
    and relatives, through which no scale passes: shift and scale are nodes behind it. CONV: convolution to convolution.
    LINEAR: matrix product to matrix product, with nothing but layout between them.
    """

    NORM = "norm"
    VALUE = "value-output"
    GATED = "up-down"
    RELU = "relu-mlp"
    ACTIVATION = "activation"
    CONV = "conv-conv"
    LINEAR = "linear-linear"


@dataclass(frozen=True, slots=True)
class Operand:
    """One constant input of a node, with the axis along which the site's channels lie."""

    node: ir.Node
    index: int
    axis: int = 0

    @property
    def value(self) -> ir.Value:
        """What the node reads there."""
        value = self.node.inputs[self.index]
        if value is None:
            raise ValueError(f"{self.node.name} has no input {self.index}")
        return value


@dataclass(frozen=True, slots=True)
class Reader:
    """A MatMul, Gemm, Conv or ConvTranspose that reads the channels.

    Attributes:
        weight: Its weight; the axis is that of the input channels.
        outputs: Axis of the weight's output channels.
        bias: Its bias: of the node itself, or of the Add behind a MatMul; None where there is none.
    """

    weight: Operand
    outputs: int
    bias: Operand | None

    @property
    def node(self) -> ir.Node:
        """The layer."""
        return self.weight.node

    def matrix(self) -> Reals:
        """The weight as float32 [channels, outputs]: each kernel place of a Conv counts as an output.

        Of a depthwise Conv the diagonal matrix with the Euclidean norm of each channel's kernel.
        """
        array = constant_array(self.weight.value)
        if array is None:
            raise ValueError(f"{self.weight.value.name} is no constant")
        wide = array.astype(np.float32)
        if wide.ndim > 2 and self.weight.axis == self.outputs:
            return np.diag(np.sqrt(np.square(wide.reshape(wide.shape[0], -1)).sum(1)))
        return np.ascontiguousarray(np.moveaxis(wide, self.weight.axis, 0).reshape(wide.shape[self.weight.axis], -1))


@dataclass(frozen=True, slots=True)
class Edge:
    """A reader that is no layer (the residual Add of a post-LN block): it needs the values as they were.

    Attributes:
        axis: Where the channels lie in what it reads, counted from the end (negative).
        bias: Bias of the layer whose result the node adds to the value; a shift is restored there at no cost.
    """

    node: ir.Node
    index: int
    axis: int
    bias: Operand | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """A tensor whose channels can be shifted and scaled without changing the model's function.

    Attributes:
        value: The tensor, as its readers get it (before layout operators).
        axis: Where its channels lie, counted from the end.
        scales: Operands to divide by s, the gain of a norm or the weight (by output channel) of a layer; empty where a
            Mul has to be added.
        bias: Operand that takes the shift; None where there is none.
        bias_node: Node that can be given a bias where it has none.
        shifts: Whether a shift is exact here.
        to_source: Channel of the readers to channel of the source; None where they are the same. Several for one where
            heads are repeated.
        part: Output channels of the source layer that are the site's, ascending; None where all are (one layer may make
            queries, keys and values).
    """

    kind: Kind
    value: ir.Value
    channels: int
    scales: tuple[Operand, ...]
    bias: Operand | None
    readers: tuple[Reader, ...]
    edges: tuple[Edge, ...] = ()
    axis: int = -1
    bias_node: ir.Node | None = None
    shifts: bool = True
    to_source: Channels | None = None
    part: Channels | None = None

    @property
    def sources(self) -> int:
        """Channels of what makes the tensor; fewer than `channels` where heads are repeated."""
        return self.channels if self.to_source is None else int(self.to_source.max()) + 1

    @property
    def name(self) -> str:
        """The name of the tensor, by which parameters and reports go."""
        return str(self.value.name)

    def describe(self) -> dict[str, Any]:
        """For reports: a line of `qcompile passes --explain`."""
        tied = [item.weight.value.name for item in self.readers if len(item.weight.value.uses()) > 1]
        entry: dict[str, Any] = {
            "site": self.name, "kind": self.kind.value, "channels": self.channels,
            "readers": [str(item.node.name) for item in self.readers],
            "edges": [str(item.node.name) for item in self.edges], "shift": self.shifts,
        }  # fmt: skip
        return entry | ({"tied": tied} if tied else {})


@dataclass(frozen=True, slots=True)
class Refusal:
    """A candidate that cannot be rewritten, and why."""

    kind: Kind
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """Every candidate of a model, in graph order."""

    sites: tuple[Site, ...]
    refused: tuple[Refusal, ...]

    def count(self, kind: Kind) -> int:
        """How many sites there are of a kind."""
        return sum(item.kind is kind for item in self.sites)
