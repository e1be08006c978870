"""onnxruntime on CPUs. x86 wants unsigned activations (zero point 128 on the int8 grid), arm64 signed ones."""

from __future__ import annotations

from qcompiler.target import Placement, ScanForm, Target

_SCAN_FORM = ScanForm(channels_last=True, chunk=32, steps=True)
_NATIVE = frozenset({"LayerNormalization", "Gelu", "HardSwish", "Mish"})
_SPELLINGS = ("spread-softplus", "divide-in-norms", "sum-single-places")
_INT4_BLOCKS = (32, 16)
"""MatMulNBits takes powers of two from 16 on; small blocks cost little memory and are more exact."""
_INT4_RULE = "--bits w4a16: int4 weights in blocks of 32 in com.microsoft.MatMulNBits (not with --portable)"

ORT_CPU = Target(
    name="ort-cpu",
    title="onnxruntime on x86-64 CPUs",
    aliases=("ort", "ort-cpu-x86", "cpu"),
    opset=21,
    emitter="qcompiler.backends.onnxruntime.emitter:OnnxruntimeEmitter",
    placement=Placement(
        frozenset({"Conv", "MatMul", "Gemm"}),
        weights_pair_safe=True,
        zero_points="free",
        conv_outputs=True,
        min_reduction=26,
        int4_blocks=_INT4_BLOCKS,
    ),
    int4_domain="com.microsoft",
    scan_form=_SCAN_FORM,
    runtime="onnxruntime >= 1.21",
    native_ops=_NATIVE,
    spellings=_SPELLINGS,
    domains=frozenset({"", "com.microsoft"}),
    options={"activation_container": "uint8"},
    rules=(
        "static symmetric activations on the int8 grid, held as uint8 with zero point 128: the fast container on x86",
        "int8 weights per output channel; neighbours bounded so that kernels without VNNI cannot saturate",
        "every quantized MatMul, Gemm and Conv runs in an integer kernel; leftovers are counted and reported",
        "--portable: standard operators only (MatMulInteger, ConvInteger), no com.microsoft",
        _INT4_RULE,
        "ConvTranspose stays float: onnxruntime has no integer kernel for it",
        "depthwise Convs stay float: rescaling costs more than integers win",
    ),
)

ORT_CPU_ARM64 = Target(
    name="ort-cpu-arm64",
    title="onnxruntime on arm64 CPUs with dot product (Cortex-A76 and newer)",
    aliases=("ort-arm64", "arm64"),
    opset=20,  # at 21 onnxruntime on x86 refuses its own rewrite of int8 pairs, and bundles are tried out there too
    emitter="qcompiler.backends.onnxruntime.emitter:OnnxruntimeEmitter",
    placement=Placement(
        frozenset({"Conv", "MatMul", "Gemm"}), zero_points="free", conv_outputs=True, min_reduction=26,
        int4_blocks=_INT4_BLOCKS,
    ),
    int4_domain="com.microsoft",
    scan_form=_SCAN_FORM,
    runtime="onnxruntime >= 1.24",
    native_ops=_NATIVE,
    spellings=_SPELLINGS,
    domains=frozenset({"", "com.microsoft"}),
    options={"activation_container": "int8"},
    rules=(
        "static symmetric activations as int8 with zero point 0: the container of the sdot kernels",
        "int8 weights per output channel, full range",
        "every quantized MatMul, Gemm and Conv runs in an integer kernel; leftovers are counted and reported",
        "--portable: standard operators only, no com.microsoft",
        _INT4_RULE,
    ),
)
