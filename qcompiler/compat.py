"""Drop-in for `onnxruntime.quantization.quantize_static`: the same signature, this compiler's ort-cpu graph.

    from qcompiler.compat import quantize_static

Differences: weights are always int8 per output channel and activations symmetric on an 8-bit grid, whatever
`per_channel` and the two 8-bit types say; a name in `nodes_to_quantize` or `nodes_to_exclude` that the model lacks is
an error. Other settings that cannot be followed raise a UserWarning that names them. As in onnxruntime, `model_output`
is overwritten. The reader is consumed once.
"""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType

from qcompiler.errors import CalibrationError, OutputError, UsageError

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

_METHODS = {
    CalibrationMethod.MinMax: "minmax",
    CalibrationMethod.Entropy: "entropy",
    CalibrationMethod.Percentile: "percentile",
}
_EIGHT_BITS = (QuantType.QInt8, QuantType.QUInt8)
_ALREADY_SO = {"ActivationSymmetric": True, "WeightSymmetric": True, "CalibTensorRangeSymmetric": True,
               "EnableSubgraph": True, "AddQDQPairToWeight": False, "UseQDQContribOps": False, "SmoothQuant": False,
               "ForceQuantizeNoInputCheck": False, "MatMulConstBOnly": False, "CalibMovingAverage": False}  # fmt: skip
"""Extra options with the values that this compiler follows anyway."""


def quantize_static(
    model_input: str | Path | onnx.ModelProto,
    model_output: str | Path,
    calibration_data_reader: CalibrationDataReader | None = None,
    quant_format: QuantFormat = QuantFormat.QDQ,
    op_types_to_quantize: Sequence[str] | None = None,
    per_channel: bool = False,
    reduce_range: bool = False,
    activation_type: QuantType = QuantType.QInt8,
    weight_type: QuantType = QuantType.QInt8,
    nodes_to_quantize: Sequence[str] | None = None,
    nodes_to_exclude: Sequence[str] | None = None,
    use_external_data_format: bool = False,
    calibrate_method: CalibrationMethod = CalibrationMethod.MinMax,
    calibration_providers: Sequence[str] | None = None,
    extra_options: Mapping[str, Any] | None = None,
    calibration_cache_path: str | Path | None = None,
) -> None:
    """Quantize `model_input` and write one model file (with `.data` beside it where asked for or needed).

    Raises:
        UsageError: A type that isn't 8 bits wide, a node name that the model lacks.
        CalibrationError: No reader, or samples that don't fit the model.
        QcompileError: As `qcompiler.compile`.
    """
    from qcompiler.reading import as_model

    if calibration_data_reader is None:
        raise CalibrationError("no calibration_data_reader", hint="a cache of onnxruntime's ranges is not read")
    for name, kind in (("activation_type", activation_type), ("weight_type", weight_type)):
        if kind not in _EIGHT_BITS:
            raise UsageError(f"{kind} is not supported", where=name, hint="QInt8 is")
    extra = dict(extra_options or {})
    percentile = extra.pop("CalibPercentile", None)
    settings = {
        "quant_format": quant_format == QuantFormat.QOperator and "Q/DQ pairs and onnxruntime's operators are written",
        "weight_type": weight_type == QuantType.QUInt8 and "weights are int8",
        "reduce_range": reduce_range and "weights are bounded so that kernels without VNNI cannot saturate",
        "calibration_providers": calibration_providers not in (None, ["CPUExecutionProvider"]) and "the CPU calibrates",
        "calibration_cache_path": calibration_cache_path is not None and "nothing is cached",
        "calibrate_method": calibrate_method not in _METHODS and "mse is used",
    }
    settings |= {f"extra_options[{key!r}]": _no_effect(key, value) for key, value in extra.items()}
    _warn(settings)
    source = as_model(model_input)
    options: dict[str, Any] = {"method": _METHODS.get(calibrate_method, "mse"), "percentile": percentile}
    options |= {"include": _exactly(nodes_to_quantize), "exclude": _exactly(nodes_to_exclude)}
    if op_types_to_quantize:
        options["exclude_op"] = _others(op_types_to_quantize, source)
    options |= _samples(calibration_data_reader)
    _compile_to(source, Path(model_output), options, external=use_external_data_format)


def _compile_to(model: ir.Model, output: Path, options: dict[str, Any], *, external: bool) -> None:
    from qcompiler.api import compile
    from qcompiler.saving import EXTERNAL_BYTES, save_model

    result = compile(model, "ort-cpu", verify=False, build_check="off", **options)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
            made = Path(folder) / output.name  # the name of the .data file follows it
            save_model(result.model, made, external_above=0 if external else EXTERNAL_BYTES)
            for path in sorted(Path(folder).iterdir(), reverse=True):  # the weights before the graph
                path.replace(output.parent / path.name)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=str(output)) from error


def _samples(reader: CalibrationDataReader) -> dict[str, Any]:
    """All samples calibrate, as in onnxruntime; the first also stands in for validation, so that none is held back."""
    first = reader.get_next()
    if first is None:
        raise CalibrationError("the calibration_data_reader gives no samples")
    return {"calibration": chain((first,), iter(reader.get_next, None)), "validate": [first]}


def _exactly(names: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(f"^{re.escape(name)}$" for name in names or ())


def _others(wanted: Sequence[str], model: ir.Model) -> tuple[str, ...]:
    """Operators of the model that would be quantized besides `wanted`; warns of wanted ones that never are."""
    from qcompiler.registry import find_target

    placement = find_target("ort-cpu").placement
    able = placement.weighted_ops | placement.product_ops
    never = sorted(set(wanted) - able)
    if never:
        _warn({"op_types_to_quantize": f"{', '.join(never)} stay float"})
    return tuple(sorted({node.op_type for node in model.graph.all_nodes()} & able - set(wanted)))


def _no_effect(key: str, value: Any) -> str | bool:
    follows = key in _ALREADY_SO and _ALREADY_SO[key] == value
    return False if follows else f"{value!r} is not followed"


def _warn(settings: Mapping[str, str | bool]) -> None:
    for name, reason in settings.items():
        if isinstance(reason, str):
            warnings.warn(f"qcompile: {name} has no effect: {reason}", UserWarning, stacklevel=3)
