"""Pages for tests: of a small compile, and of made-up data of any size."""

from __future__ import annotations

from typing import Any

from qcompiler.driver import compile_model
from qcompiler.html_report.extras import Extras
from qcompiler.html_report.page import render, report_html
from qcompiler.options import CompileOptions
from qcompiler.report import report_document
from qcompiler.result import CompileResult
from tests.small_models import block_batches, transformer_block


def small_compile(target: str = "orin") -> CompileResult:
    """A block with attention, equalized."""
    options = CompileOptions(target=target, calib=block_batches(), equalize="os_plus", build_check="off")
    return compile_model(transformer_block(), options)


def small_page() -> str:
    result = small_compile()
    return report_html(result, report_document(result))


def large_page(nodes: int = 2000) -> str:
    """As many nodes, 0.4 as many layers and histograms, 60 tensors that were equalized."""
    layers = [
        {"name": f"/encoder/layer.{i}/attention/output/dense/MatMul_output_0", "sqnr": 5 + (i * 37) % 300 / 10,
         "cosine": 0.987654, "max_error": 0.1234, "agreement": 0.98765}
        for i in range(nodes * 2 // 5)
    ]  # fmt: skip
    document = {**EMPTY, "verification": {
        name: {"samples": 8, "outputs": [{**layers[0], "name": "y"}], "layers": layers} for name in ("model", "host")
    }}  # fmt: skip
    rows = [[f"/encoder/layer.{i}/attention/output/dense/MatMul_{i}", i % 3, i % 6, -1, -1, -1] for i in range(nodes)]
    histograms = [[item["name"], -1.234, 1.234, -1.0, 1.0, 0.0123, [123456] * 64] for item in layers]
    side = {"tensor": "hidden", "largest": 12.3, "spread": 4.56, "low": [-1.23] * 128, "high": [1.23] * 128}
    channels = [{"readers": [f"layer{i}"], "channels": 768, "before": side, "after": side} for i in range(60)]
    operators = {"operators": ["MatMul", "Add", "Softmax"], "reasons": [], "precisions": [], "islands": []}
    return render(document, Extras(nodes={**operators, "rows": rows}, histograms=histograms, channels=channels))


EMPTY: dict[str, Any] = {
    "schema": "qcompile-report/1", "target": "orin-jp6", "source": "m.onnx", "command": "qcompile m.onnx",
    "calibration": {"source": "npz", "samples": 8, "method": "mse", "fingerprint": ""},
    "graphs": {name: {"opset": 19, "nodes": 3, "operators": {"MatMul": 3}, "weight_bytes": 4000}
               for name in ("float", "model")},
    "precision": [], "quantized": {"MatMul": {"quantized": 1, "total": 3}}, "float": [], "facts": {},
    "verification": {"model": {"samples": 2, "outputs": [
        {"name": "y", "sqnr": 30.0, "cosine": 0.9, "max_error": 0.1, "agreement": None}], "layers": []}},
    "check": {}, "passes": [], "certificates": [], "diagnostics": [], "gates": [],
}  # fmt: skip
"""A report in which everything holds and little happened."""


def lookup_table(tensor: str = "softmax") -> dict[str, Any]:
    """A row of `lookup_tables`."""
    levels = [0.0, 0.02, 0.5, 1.0]
    return {
        "name": "table", "tensor": tensor, "layer": tensor, "heads": [0, 2], "kind": "tan", "bits": 4,
        "form": "integer", "alpha": 1.0, "centre": 0.1, "d": 1.0, "levels": levels, "exact_levels": levels,
        "largest_error": 0.01, "error": 0.012, "error_exact": 0.01, "by_kind": {"tan": 0.012, "uniform": 0.05},
        "rows": 9, "measured_on": "P V", "histogram": {"counts": [5, 0, 2, 1], "top": 0.9, "zeros": 3},
    }  # fmt: skip
