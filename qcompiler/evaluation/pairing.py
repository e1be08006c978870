"""Which tensors of two models are compared: inputs and outputs by name, else by position; inner tensors by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.errors import UsageError

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})


@dataclass(frozen=True, slots=True)
class Pairing:
    """Names in the reference to names in the candidate.

    Attributes:
        inputs: Reference input to candidate input.
        outputs: (reference, candidate) outputs, in the reference's order.
        layers: Inner values of both models, in the reference's graph order.
    """

    inputs: dict[str, str]
    outputs: tuple[tuple[str, str], ...]
    layers: tuple[str, ...] = ()

    @classmethod
    def by_name(cls, reference: ir.Model, candidate: ir.Model, layers: Sequence[str] = ()) -> Pairing:
        """Equal names only; for two graphs of one compile.

        Raises:
            UsageError: No output in common.
        """
        theirs = {value.name for value in candidate.graph.outputs}
        outputs = tuple((name, name) for name in _names(reference.graph.outputs) if name in theirs)
        if not outputs:
            raise UsageError("the models have no output name in common")
        names = {name: name for name in _names(candidate.graph.inputs)}
        return cls(names, outputs, common_values(reference, candidate, set(layers)))

    @classmethod
    def of_any(cls, reference: ir.Model, candidate: ir.Model) -> Pairing:
        """Equal names first, then the rest in order where type and shape can be equal; inner values by name.

        Raises:
            UsageError: An input of the candidate, or every output, finds no partner, or an input has another type
                or shape in the two.
        """
        inputs = _pair(reference.graph.inputs, candidate.graph.inputs)
        _check_inputs(reference, candidate, inputs)
        fed = {theirs for _, theirs in inputs}
        initialized = set(candidate.graph.initializers)
        for name in _names(candidate.graph.inputs):
            if name not in fed and name not in initialized:
                raise UsageError(f"the input {name!r} of the second model fits no input of the first")
        outputs = _pair(reference.graph.outputs, candidate.graph.outputs)
        if not outputs:
            raise UsageError("no output of the second model fits one of the first, by name or by position")
        return cls(dict(inputs), tuple(outputs), common_values(reference, candidate))


def common_values(reference: ir.Model, candidate: ir.Model, wanted: set[str] | None = None) -> tuple[str, ...]:
    """Float values inside both main graphs under one name, outputs left out, in the reference's graph order."""
    theirs = {value.name for node in candidate.graph for value in node.outputs if _is_float(value)}
    outputs = {value.name for model in (reference, candidate) for value in model.graph.outputs}
    return tuple(
        value.name
        for node in reference.graph
        for value in node.outputs
        if value.name and value.name in theirs and value.name not in outputs and _is_float(value)
        and (wanted is None or value.name in wanted)
    )  # fmt: skip


def _check_inputs(reference: ir.Model, candidate: ir.Model, pairs: Iterable[tuple[str, str]]) -> None:
    ours, theirs = ({value.name: value for value in model.graph.inputs} for model in (reference, candidate))
    for name, other in pairs:
        one, two = ours[name], theirs[other]
        typed = one.dtype is not None and two.dtype is not None
        if typed and one.dtype != two.dtype and not (_is_float(one) and _is_float(two)):
            words = f"{_word(one.dtype)} in the first model and {_word(two.dtype)} in the second"
            raise UsageError(f"the input {name!r} is {words}")
        if not _shapes_may_match(one, two):
            raise UsageError(f"the input {name!r} has the shape {one.shape} in the first model and {two.shape} in the "
                             "second")  # fmt: skip


def _word(dtype: ir.DataType | None) -> str:
    return "" if dtype is None else dtype.name.lower()


def _pair(first: Iterable[ir.Value], second: Iterable[ir.Value]) -> list[tuple[str, str]]:
    ours, theirs = list(first), list(second)
    by_name = {value.name: value for value in theirs}
    paired = {value.name: by_name[value.name] for value in ours if value.name in by_name}
    left = [value for value in theirs if value.name not in paired]
    for value in ours:
        if value.name not in paired and left and _may_match(value, left[0]):
            paired[value.name] = left.pop(0)
    return [(str(value.name), str(paired[value.name].name)) for value in ours if value.name in paired]


def _may_match(first: ir.Value, second: ir.Value) -> bool:
    known = first.dtype is not None and second.dtype is not None
    if known and first.dtype != second.dtype and not (_is_float(first) and _is_float(second)):
        return False
    return _shapes_may_match(first, second)


def _shapes_may_match(first: ir.Value, second: ir.Value) -> bool:
    if first.shape is None or second.shape is None:
        return True
    sizes = zip(first.shape, second.shape, strict=False)
    return len(first.shape) == len(second.shape) and all(
        a == b or not isinstance(a, int) or not isinstance(b, int) for a, b in sizes
    )


def _is_float(value: ir.Value) -> bool:
    return value.dtype is None or value.dtype in _FLOATS


def _names(values: Iterable[ir.Value]) -> list[str]:
    return [value.name for value in values if value.name]
