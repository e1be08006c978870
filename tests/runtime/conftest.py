"""Bundles of small models, one for onnxruntime and one that carries a state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.registry import find_target
from qcompiler.result import CompileResult
from qcompiler.session import Feeds, run_all

STEP_TEXT = """<ir_version: 8, opset_import: ["" : 17]>
m (float[B, 1] x, float[B, 3] past_state_0, float[B, L, 2] past_key_values_0_key, float[2] gain)
  => (float[B, 1] y, float[B, 3] present_state_0, float[B, T, 2] present_0_key)
  <int64[1] one = {1}, int64[1] last = {4}, int64[1] axis = {1}> {
  joined = Concat<axis=1>(past_state_0, x)
  present_state_0 = Slice(joined, one, last, axis)
  y = ReduceSum<keepdims=1>(joined, axis)
  row = Unsqueeze(x, axis)
  key = Mul(row, gain)
  present_0_key = Concat<axis=1>(past_key_values_0_key, key)
}"""


@pytest.fixture
def bundle(make_result: Callable[..., CompileResult], tmp_path: Path) -> Path:
    """A bundle for onnxruntime."""
    return make_result().save(tmp_path / "m.ort-cpu")


@pytest.fixture
def orin_bundle(make_result: Callable[..., CompileResult], tmp_path: Path) -> Path:
    """A bundle for TensorRT with a profile for its batch; host.onnx is the same graph."""
    result = make_result(target=find_target("orin"))
    result.model.metadata_props["qcompile.shapes"] = '{"x":[[1,4],[2,4],[8,4]]}'
    return replace(result, host=result.model.clone()).save(tmp_path / "m.orin")


@pytest.fixture
def stream_bundle(make_result: Callable[..., CompileResult], tmp_path: Path) -> Path:
    """A model with a state of three values and a cache that grows by one row a step."""
    model = ir.from_onnx_text(STEP_TEXT)
    random = np.random.default_rng(0)
    shapes = {"x": (2, 1), "past_state_0": (2, 3), "past_key_values_0_key": (2, 1, 2), "gain": (2,)}
    feeds: Feeds = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    golden: Any = tuple(zip([feeds], run_all(model, [feeds]), strict=True))
    return make_result(model=model, golden=golden).save(tmp_path / "s.ort-cpu")
