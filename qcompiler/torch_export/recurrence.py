"""A recurrence over time that exports as one ONNX Scan, whatever the batch and the length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Body = Callable[[Any, Any], tuple[Any, Any]]


def scan(body: Body, state: Any, xs: Any, *, axis: int = 1) -> tuple[Any, Any]:
    """state, y[t] = body(state, x[t]) for every t along `axis` of all tensors in `xs`; the last state and all y.

    Runs as a Python loop, and differentiably, outside of an export; under the dynamo exporter it becomes torch's scan
    operator and ONNX's Scan, with length and batch free. (TorchScript's tracer knows no such operator: it writes out
    the steps of the example's length.) `body` may use parameters; it keeps the shapes and types of the state.

    Leave arithmetic to `body` and give `xs` their axes before: NVIDIA's builder (TensorRT-RTX 1.7.1) refuses a Scan
    whose body unsqueezes what it goes along.

    Args:
        state: A tensor, or a nest of tuples, lists and dicts of tensors, without the time axis.
        xs: The same kind of nest, with the time axis; at least one step long.
        axis: Where time is in `xs`, and will be in y.

    Returns:
        The state after the last step, and y with the time axis at `axis`.

    Raises:
        ValueError: `xs` holds no tensor, or no step.
    """
    tensors = pytree.tree_leaves(xs)
    if not tensors:
        raise ValueError("scan needs at least one tensor to go along")
    along = pytree.tree_map(lambda x: x.movedim(axis, 0), xs)
    if torch.compiler.is_exporting():
        from torch._higher_order_ops.scan import scan as operator

        last, ys = operator(_without_aliases(body), pytree.tree_map(_copied, state), along)
    else:
        last, ys = _loop(body, state, along, tensors[0].shape[axis])
    return last, pytree.tree_map(lambda y: y.movedim(0, axis), ys)


def _loop(body: Body, state: Any, xs: Any, steps: int) -> tuple[Any, Any]:
    if steps < 1:
        raise ValueError("scan needs at least one step")
    rows = []
    for t in range(steps):
        state, y = body(state, pytree.tree_map(lambda x, t=t: x[t], xs))
        rows.append(pytree.tree_leaves(y))
    form = pytree.tree_structure(y)
    return state, pytree.tree_unflatten([torch.stack(column) for column in zip(*rows, strict=True)], form)


def _without_aliases(body: Body) -> Body:
    """torch's operator refuses outputs that are an input or another output, and states whose strides change."""

    def wrapped(state: Any, x: Any) -> tuple[Any, Any]:
        return tuple(pytree.tree_map(_copied, part) for part in body(state, x))

    return wrapped


def _copied(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)
