"""The drop-in for onnxruntime's quantize_static."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization

from qcompiler import compat
from qcompiler.errors import CalibrationError, UsageError


class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Eight samples."""

    def __init__(self) -> None:
        random = np.random.default_rng(3)
        self.left = [{"x": random.standard_normal((1, 16)).astype(np.float32)} for _ in range(8)]

    def get_next(self) -> dict[str, Any] | None:
        return self.left.pop() if self.left else None


@pytest.fixture
def model(tmp_path: Path) -> Path:
    random = np.random.default_rng(4)
    weights = {"w1": (16, 32), "w2": (32, 8)}
    tensors = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
        for name, shape in weights.items()
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("Gemm", ["r", "w2"], ["y"], name="second"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name, size in (("x", 16), ("y", 8))]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def integer_types(path: Path) -> int:
    model = onnx.load(str(path))
    return sum(
        item.data_type in (TensorProto.INT8, TensorProto.UINT8)
        for item in model.graph.initializer
        if len(item.dims) == 2
    )


def test_signature_is_onnxruntimes() -> None:
    ours = inspect.signature(compat.quantize_static).parameters
    theirs = inspect.signature(quantization.quantize_static).parameters
    assert [(item.name, item.default, item.kind) for item in ours.values()] == [
        (item.name, item.default, item.kind) for item in theirs.values()
    ]


def test_writes_one_model_that_runs_close_to_float(model: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        compat.quantize_static(
            model, tmp_path / "q.onnx", Reader(), per_channel=True, activation_type=quantization.QuantType.QUInt8
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "q.onnx"]
    assert integer_types(tmp_path / "q.onnx") == 2
    x = Reader().left[0]
    want, got = (ort.InferenceSession(str(path)).run(None, x)[0] for path in (model, tmp_path / "q.onnx"))
    assert np.abs(want - got).max() < 0.05 * np.abs(want).max()


def test_a_proto_a_string_and_external_data(model: Path, tmp_path: Path) -> None:
    proto = onnx.load(str(model))
    compat.quantize_static(proto, str(tmp_path / "q.onnx"), Reader(), use_external_data_format=True)
    assert (tmp_path / "q.onnx.data").is_file()
    ort.InferenceSession(str(tmp_path / "q.onnx"))
    compat.quantize_static(proto, str(tmp_path / "q.onnx"), Reader())  # overwrites


@pytest.mark.parametrize(
    "choice", [{"nodes_to_exclude": ["second"]}, {"nodes_to_quantize": ["first"]}, {"op_types_to_quantize": ["MatMul"]}]
)
def test_choices_of_nodes(model: Path, tmp_path: Path, choice: dict[str, Any]) -> None:
    compat.quantize_static(model, tmp_path / "q.onnx", Reader(), **choice)
    assert integer_types(tmp_path / "q.onnx") == 1


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"quant_format": quantization.QuantFormat.QOperator}, "quant_format"),
        ({"reduce_range": True}, "reduce_range"),
        ({"calibrate_method": quantization.CalibrationMethod.Distribution}, "calibrate_method"),
        ({"calibration_providers": ["CUDAExecutionProvider"]}, "calibration_providers"),
        ({"calibration_cache_path": "cache.json"}, "calibration_cache_path"),
        ({"extra_options": {"SmoothQuant": True}}, r"extra_options\['SmoothQuant'\]"),
        ({"extra_options": {"WeightSymmetric": False}}, r"extra_options\['WeightSymmetric'\]"),
        ({"op_types_to_quantize": ["MatMul", "Softmax"]}, "Softmax stay float"),
    ],
)
def test_what_cannot_be_followed_warns_by_name(model: Path, tmp_path: Path, setting: dict[str, Any], said: str) -> None:
    with pytest.warns(UserWarning, match=said):
        compat.quantize_static(model, tmp_path / "q.onnx", Reader(), **setting)


def test_errors(model: Path, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no calibration_data_reader"):
        compat.quantize_static(model, tmp_path / "q.onnx")
    with pytest.raises(UsageError, match="weight_type"):
        compat.quantize_static(model, tmp_path / "q.onnx", Reader(), weight_type=quantization.QuantType.QInt4)
    with pytest.raises(UsageError, match="secnd"):
        compat.quantize_static(model, tmp_path / "q.onnx", Reader(), nodes_to_exclude=["secnd"])
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
