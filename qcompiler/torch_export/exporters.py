"""The two exporters of torch, each as one function from an adapter to a graph."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

from qcompiler.torch_export.adapter import Adapter
from qcompiler.torch_export.dynamic_axes import Axes
from qcompiler.torch_export.quiet import hushed

Tensors = Sequence[tuple[str, Tensor]]


class ExportFailure(Exception):
    """One exporter's refusal, as one line."""


def with_dynamo(adapter: Adapter, tensors: Tensors, axes: Axes, opset: int) -> ir.Model:
    """torch.export and its translation to ONNX.

    Raises:
        ExportFailure: It refuses, or gives another opset than asked for.
    """
    # Its own names for the sizes: they must be identifiers, and a sum is none. Ours are set on the finished graph.
    words: dict[str, str] = {}
    shapes = tuple(
        {axis: words.setdefault(size, f"size_{len(words)}") for axis, size in axes.get(name, {}).items()}
        for name, _ in tensors
    )
    program = torch.onnx.export(
        adapter, tuple(tensor for _, tensor in tensors), dynamo=True, dynamic_shapes={"tensors": shapes},
        opset_version=opset, optimize=True, verbose=False,
    )  # fmt: skip
    model: ir.Model = program.model
    got = model.opset_imports.get("")
    if got != opset:
        raise ExportFailure(f"it gives opset {got}, not {opset}")
    return model


def with_torchscript(adapter: Adapter, tensors: Tensors, axes: Axes, opset: int) -> ir.Model:
    """Tracing and its translation to ONNX; control flow is written out as the example takes it.

    Weights are read into memory: the file goes away.
    """
    names = [name for name, _ in tensors]
    outputs = [f"output.{index}" for index in range(len(adapter(*(tensor for _, tensor in tensors))))]
    with tempfile.TemporaryDirectory(prefix="qcompile-") as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            adapter, tuple(tensor for _, tensor in tensors), str(path), dynamo=False, opset_version=opset,
            input_names=names, output_names=outputs, dynamic_axes=_spaceless(axes), do_constant_folding=True,
        )  # fmt: skip
        model = ir.load(path)
        for graph in model.graphs():
            for value in graph.initializers.values():
                if isinstance(value.const_value, ir.ExternalTensor):
                    value.const_value = ir.Tensor(value.const_value.numpy().copy(), name=value.name)
    return model


EXPORTERS: Mapping[str, Callable[[Adapter, Tensors, Axes, int], ir.Model]] = {
    "dynamo": with_dynamo,
    "torchscript": with_torchscript,
}
"""In the order in which "auto" tries them."""


def run_exporter(name: str, adapter: Adapter, tensors: Tensors, axes: Axes, opset: int) -> ir.Model:
    """The graph that the exporter of this name makes of the adapter; silent.

    Raises:
        ExportFailure: It refuses, whatever it raised; the root cause as one line.
    """
    try:
        with hushed():
            return EXPORTERS[name](adapter, tensors, axes, opset)
    except ExportFailure:
        raise
    except Exception as error:  # exporters raise whatever the module, the tracer or the translator raise
        raise ExportFailure(root_cause(error)) from error


def root_cause(error: BaseException) -> str:
    """Type and first line (with the next, where it ends in a colon) of what was raised first."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = " ".join(lines[:2] if lines and lines[0].endswith(":") else lines[:1])
    return f"{type(error).__name__}: {first[:300]}" if lines else type(error).__name__


def _spaceless(axes: Axes) -> dict[str, dict[int, Any]]:
    return {name: {axis: size.replace(" ", "") for axis, size in found.items()} for name, found in axes.items()}
