"""State-space models export three ways from one module; the three agree (tests/models/test_export_states.py).

| file | form | inputs | outputs |
| --- | --- | --- | --- |
| sequence.onnx | ONNX Scan over time, any batch and length | input_ids [B, T] | logits, present_conv_state.{i}, ... |
| chunked.onnx | matrix products over chunks, no loop | input_ids [B, T] | the same |
| step.onnx | one token, no loop | input_ids [B, 1], past_conv_state.{i}, past_ssm_state.{i} | the same |

The first two read a text from its beginning and leave the states with which the third goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qcompiler.torch_export import ExportResult, export

WAYS = ("sequence", "chunked", "step")
_FORMS = {"sequence": "scan", "chunked": "chunked", "step": "sequential"}


def export_states(
    module: Any, folder: Path, ways: tuple[str, ...] = WAYS, *, length: int = 16, force: bool = False, **options: Any
) -> dict[str, ExportResult]:
    """Write `<way>.onnx` for each of `ways` into `folder`, which exists.

    Args:
        module: `models.nets.mamba.Mamba`, `models.nets.mamba2.Mamba2`, or another whose forward takes input_ids, states
            and form, and returns the logits and a state a layer.
        length: Tokens of the example.
        options: Further keyword arguments of `export`.

    Raises:
        QcompileError: As `export`.
    """
    return {way: export_way(module, way, folder / f"{way}.onnx", length=length, force=force, **options) for way in ways}


def export_way(module: Any, way: str, output: Path, *, length: int = 16, **options: Any) -> ExportResult:
    """One of `WAYS` into the file `output`.

    Raises:
        ValueError: There is no such way.
        QcompileError: As `export`.
    """
    if way not in WAYS:
        raise ValueError(f"unknown way {way!r}; known: {', '.join(WAYS)}")
    inputs: dict[str, Any] = {"input_ids": (2, length)}
    if way == "step":
        from qcompiler.torch_export import cached_inputs  # imports torch, which `python -m models list` doesn't need

        inputs = cached_inputs(module, past=length, length=1)
    inputs["form"] = _FORMS[way]
    return export(module, inputs, output, **{"output_names": ["logits"], **options})
