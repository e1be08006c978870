"""divide-in-norms: the root mean square as onnxruntime fuses it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompiler.passes.spelling.divide_in_norms import DivideInNorms
from tests.building import build
from tests.equivalence import largest_error, ops_of, random_feeds

NORM = """
    square = Pow (x, two)
    mean = ReduceMean <keepdims = 1> (square, last)
    sum = Add (mean, epsilon)
    root = Sqrt (sum)
    inverse = Reciprocal (root)
    scaled = Mul (x, inverse)
    y = Mul (scaled, gain)"""


def model_of(body: str = NORM) -> ir.Model:
    return build(f"agraph (float[n,8] x) => (float[n,8] y) {{ {body} }}", two=np.float32(2), last=np.array([-1]),
                 epsilon=np.float32(1e-5), gain=np.linspace(0.5, 2, 8).astype(np.float32))  # fmt: skip


@pytest.mark.parametrize("product", ["Mul (x, inverse)", "Mul (inverse, x)"])
def test_onnxruntime_fuses_what_is_left(product: str, tmp_path: Path) -> None:
    import onnxruntime as ort

    model = model_of(NORM.replace("Mul (x, inverse)", product))
    before = model.clone()
    assert DivideInNorms().run(model).matched == ("scaled",)
    assert "Reciprocal" not in ops_of(model)
    assert largest_error(before, model, random_feeds(before, {"n": 5})) <= 1e-6
    assert not DivideInNorms().run(model).modified
    counts = []
    for item in (before, model):
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        ort.InferenceSession(ir.to_proto(item).SerializeToString(), options, providers=["CPUExecutionProvider"])
        counts.append(Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node))
    assert counts[1] == {"SimplifiedLayerNormalization": 1} and counts[0] != counts[1]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("sum = Add (mean, epsilon)", "sum = Mul (mean, epsilon)"),
        ("y = Mul (scaled, gain)", "t = Mul (scaled, gain)\n y = Mul (t, inverse)"),  # a second reader
        ("scaled = Mul (x, inverse)", "scaled = Mul (inverse, inverse)"),
    ],
)
def test_near_misses(old: str, new: str) -> None:
    assert not DivideInNorms().run(model_of(NORM.replace(old, new))).modified
