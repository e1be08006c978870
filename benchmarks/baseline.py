"""Quantize one model with onnxruntime's tools, as a process of its own so that time and memory can be taken of it.

python -m benchmarks.baseline prepare MODEL OUT
python -m benchmarks.baseline quantize MODEL OUT --calib FOLDER --setting NAME
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks.settings import Setting, setting

LOWEST_OPSET = 13  # per-axis QuantizeLinear


def prepare(source: Path, out: Path) -> str:
    """Write the model as its quantizers like it best; returns what was done.

    Raises the opset where per-channel weights need it, then runs `quant_pre_process`, without its symbolic shape
    inference where that refuses, and leaves the model as it is where all of it refuses.
    """
    import onnx
    from onnxruntime.quantization import quant_pre_process

    done = []
    model = onnx.load(str(source))
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < LOWEST_OPSET:
        model = onnx.version_converter.convert_version(model, LOWEST_OPSET)
        done.append(f"opset {opset} to {LOWEST_OPSET}")
    onnx.save(model, str(out))
    for options in ({}, {"skip_symbolic_shape": True}):
        try:
            quant_pre_process(str(out), str(out), **options)
        except Exception as error:
            print(f"quant_pre_process({options}) refuses: {error}", file=sys.stderr)
            onnx.save(model, str(out))
            continue
        done.append("pre-processed" + (" without symbolic shapes" if options else ""))
        break
    return ", ".join(done) or "as it is"


def quantize(source: Path, out: Path, calib: Path, chosen: Setting) -> None:
    """One call of `quantize_static` or `quantize_dynamic`."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static

    common: dict[str, Any] = {
        "op_types_to_quantize": list(chosen.ops) or None,
        "per_channel": True,
        "reduce_range": chosen.seven_bits,
        "weight_type": QuantType[chosen.weight],
        "extra_options": dict(chosen.extra),
    }
    if chosen.group == "dynamic":
        quantize_dynamic(str(source), str(out), **common)
        return
    quantize_static(
        str(source),
        str(out),
        _reader(calib),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType[chosen.activation],
        calibrate_method=CalibrationMethod[chosen.method],
        **common,
    )


def _reader(folder: Path) -> Any:
    import numpy as np
    from onnxruntime.quantization import CalibrationDataReader

    base: Any = CalibrationDataReader

    class Reader(base):  # type: ignore[misc]
        def __init__(self) -> None:
            self.files = iter(sorted(folder.glob("*.npz")))

        def get_next(self) -> dict[str, Any] | None:
            file = next(self.files, None)
            return None if file is None else dict(np.load(file))

    return Reader()


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("prepare", "quantize"))
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--calib", type=Path)
    parser.add_argument("--setting", default="static u8s8")
    args = parser.parse_args()
    if args.action == "prepare":
        print(prepare(args.model, args.out))
    else:
        quantize(args.model, args.out, args.calib, setting(args.setting))
    return 0


if __name__ == "__main__":
    sys.exit(main())
