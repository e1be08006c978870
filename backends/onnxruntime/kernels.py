"""What really runs: integer kernels and float leftovers in the graph that onnxruntime optimized for this machine."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnx_ir as ir

from qcompiler.errors import ModelError
from qcompiler.session import serialize_with_weights

INTEGER_OPS = frozenset(
    {
        "MatMulInteger", "MatMulIntegerToFloat", "ConvInteger", "QLinearConv", "QLinearMatMul", "QGemm",
        "DynamicQuantizeMatMul", "QAttention",
    }
)  # fmt: skip
_FLOAT_OPS = frozenset({"MatMul", "FusedMatMul", "Gemm", "Conv", "FusedConv", "FusedGemm", "Attention"})


def count_kernels(model: ir.Model) -> dict[str, Any]:
    """{"integer_kernels", "float_kernels", "leftovers"} of the optimized graph, subgraphs included.

    With int4 weights in blocks also "int4_kernels", which compute in float.

    A leftover is a float MatMul, Gemm or Conv that reads a DequantizeLinear.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    proto, _kept = serialize_with_weights(model.clone(), options)
    with tempfile.TemporaryDirectory(prefix="qcompile-") as folder:
        path = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(path)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "optimized.data")
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
        try:
            ort.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises many unrelated types
            first = str(error).strip().split("\n")[0][:400]
            raise ModelError(f"onnxruntime refuses the model: {first}") from error
        return _count(ir.load(path))


def _count(model: ir.Model) -> dict[str, Any]:
    integer, floating, blocks, leftovers = 0, 0, 0, []
    for node in model.graph.all_nodes():
        if node.op_type in INTEGER_OPS:
            integer += 1
        elif node.op_type == "MatMulNBits":
            blocks += 1
        elif node.op_type in _FLOAT_OPS:
            floating += 1
            producers = [value.producer() for value in node.inputs if value is not None]
            if any(producer is not None and producer.op_type == "DequantizeLinear" for producer in producers):
                leftovers.append(str(node.name))
    counts = {"integer_kernels": integer, "float_kernels": floating, "leftovers": leftovers}
    return counts | ({"int4_kernels": blocks} if blocks else {})
