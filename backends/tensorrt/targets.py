"""Jetson Orin under its two generations of TensorRT.

Which version stands on the board decides everything: JetPack 6.1 and 6.2 carry TensorRT 10.3 and can't leave 10.x,
JetPack 7.2.2 and later carry 11.4. One graph form suits both (strongly typed, Q/DQ explicit); opset and native
operators differ.

Placement: pairs on the inputs of weighted operators and of both attention products only. NVIDIA's guide also quantizes
the residual branch of an Add; that gains speed on residual CNNs, where the Add fuses into the convolution, but a
transformer's residual stream holds the largest outliers of the model, and pairs there cost accuracy on nearly every
model measured (MiniLM: cosine .975 with inputs only, .840 with more). With an FP16 carrier the Add still fuses, so
residual Adds stay float.
"""

from __future__ import annotations

from qcompiler.target import Placement, Target

_EMITTER = "qcompiler.backends.tensorrt.emitter:TensorRTEmitter"
_PLACEMENT = Placement(
    whole_attention=True, zero_points="folded", fused_int8_heads=(16, 32, 64), fused_int8_tokens=512, fused_half=True,
    int4_blocks=(128, 64),
)  # fmt: skip
_INT4_OPSET = 21
"""The first with int4 and blocks. TensorRT 10.0 reads such graphs; 10.3 documents opsets up to 20 for all the rest."""

_RULES = (
    "int8 activations per tensor, int8 weights per channel, all zero points 0; no uint8, int16 or int32 dequantization",
    "pairs on the inputs of Conv, ConvTranspose, MatMul and Gemm, attention products included; outputs stay float",
    "attention as fused kernels take it: both products INT8 or neither, the scale on the queries; FP16 where only that "
    "kernel takes it (more than 512 positions, or a head size other than 16, 32, 64; not with --carrier fp32)",
    "DequantizeLinear feeds its consumer directly; pairs move below Reshape, Transpose, Squeeze and Unsqueeze",
    "strongly typed: FP16 carrier with Casts in the graph, Scan, Loop and If bodies included (--carrier fp32 for none)",
    "norms decomposed into arithmetic, Exp, Softplus and Scan states stay FP32; scales fit the carrier type",
    "--bits w4a16: int4 weights in blocks of 128 or 64 behind DequantizeLinear, at opset 21 or newer",
    "only ai.onnx operators that NVIDIA's parser takes; biases float; Loop with a condition",
)

ORIN_JP6 = Target(
    name="orin-jp6",
    title="Jetson Orin, JetPack 6 (TensorRT 10.3)",
    opset=19,  # FP16 scales are legal from 19 on; 10.3 documents 9 to 20
    emitter=_EMITTER,
    aliases=("orin",),
    placement=_PLACEMENT,
    carrier="fp16",
    carriers=("fp16", "fp32"),
    host="ort-cpu",
    runtime="TensorRT 10.3 (JetPack 6.1, 6.2)",
    rules=_RULES,
    native_ops=frozenset({"LayerNormalization"}),
    int4_opset=_INT4_OPSET,
    options={"tensorrt": "10.3"},
)

ORIN_JP7 = Target(
    name="orin-jp7",
    title="Jetson Orin, JetPack 7.2.2 and later (TensorRT 11.4)",
    opset=23,  # RMSNormalization; 11.x documents 9 to 25
    emitter=_EMITTER,
    placement=_PLACEMENT,
    carrier="fp16",
    carriers=("fp16", "fp32"),
    host="ort-cpu",
    runtime="TensorRT 11.4 and later (JetPack 7.2.2)",
    rules=_RULES,
    native_ops=frozenset({"LayerNormalization", "Gelu", "RMSNormalization", "GroupNormalization"}),
    int4_opset=_INT4_OPSET,
    options={"tensorrt": "11.4"},
)
