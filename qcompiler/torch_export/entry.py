"""The call `qcompiler.export`. This file imports no torch, so that the name is there without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompiler.torch_export.requirement import require_torch

if TYPE_CHECKING:
    from torch import nn

    from qcompiler.torch_export.result import ExportResult

OPSET = 18
"""What torch's own translation is written in, and below that of every target."""

OLDEST_OPSET = 13
"""Per-channel quantization needs it."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Keyword arguments of `export`."""

    input_names: Sequence[str] | None
    output_names: Sequence[str] | None
    dynamic: str | Mapping[str, Any] | None
    opset: int
    exporter: str
    check: bool | Sequence[Mapping[str, int]]
    tolerance: float
    seed: int
    force: bool


def export(
    module: nn.Module, example_inputs: Any, output: str | Path, *,
    input_names: Sequence[str] | None = None, output_names: Sequence[str] | None = None,
    dynamic: str | Mapping[str, Any] | None = "auto", opset: int = OPSET, exporter: str = "auto",
    check: bool | Sequence[Mapping[str, int]] = True, tolerance: float = 1e-4, seed: int = 0, force: bool = False,
) -> ExportResult:  # fmt: skip
    """Export `module` to the file `output`, after comparing it with torch on onnxruntime at several sizes.

    The module runs in eval() and without gradients; its training flags are restored. Weights keep the names of their
    parameters, nodes are named by their place in the module (`/layers.0/q_proj/MatMul`). `print(result)` shows how it
    was done and the comparison.

    Args:
        module: Any torch module: one tensor, a tuple, a dict, a dataclass or Hugging Face's ModelOutput may come back,
            with caches in it.
        example_inputs: A tensor or a tuple (positional), a dict of names to tensors, or a dict of names to shapes; see
            `torch_export.examples`. Lists of pairs and caches of Hugging Face are taken apart, see
            `torch_export.structures`; `torch_export.cached_inputs` makes them.
        input_names: Instead of the forward's parameter names, for all inputs.
        output_names: Instead of the module's own names, for the first outputs.
        dynamic: Axes that vary: "auto" (the batch, and sequences of inputs with well-known names), "batch", None, or
            {input: {axis: name}} as torch.onnx.export takes it; see `torch_export.dynamic_axes`.
        opset: 13 or newer.
        exporter: "dynamo", "torchscript", or "auto": dynamo, and TorchScript where that fails or differs.
        check: Whether to compare; sizes by name, such as [{"batch_size": 8}], are compared too.
        tolerance: Largest max |onnx - torch| / max(1, max |torch|) of any output.
        seed: Of the inputs that are made up.
        force: Replace an existing file.

    Raises:
        UsageError: torch is not installed, a wrong argument, or a module that its example inputs do not fit.
        OutputError: The file exists, or cannot be written.
        UnsupportedError: No exporter takes the module; every reason is named.
        GateError: The graph differs from torch by more than the tolerance; nothing is written.
    """
    require_torch()
    from qcompiler.torch_export.export_module import run_export

    options = ExportOptions(
        input_names, output_names, dynamic, opset, exporter, check, tolerance, seed, force
    )  # fmt: skip
    return run_export(module, example_inputs, Path(output), options)
