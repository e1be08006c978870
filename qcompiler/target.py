"""A target: what a runtime on a device takes, as data. Backends supply the rows; the core reads them.

The planner reads `placement`, the driver reads `opset` and `carrier`, the emitter (named, not imported) does the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from qcompiler.scheme import INT8_ACTIVATION, QuantScheme

Carrier = Literal["fp32", "fp16"]


@dataclass(frozen=True, slots=True)
class Placement:
    """Which tensors the planner quantizes.

    Attributes:
        weighted_ops: Operators with a constant weight whose inputs are all quantized.
        product_ops: Operators quantized where both inputs are activations (both attention products).
        whole_attention: Both attention products of a block are quantized, or neither: what fused kernels take.
        weights_pair_safe: Weights are bounded so that sums of two products in 16 bits cannot saturate (no VNNI).
        zero_points: Which one-sided tensors may have one: all ("free"), as kernels take any; those whose offset the
            biases of layers without padding take up ("folded"); "none".
        conv_outputs: Quantize what a Conv gives where its readers are float: kernels that write 8 bits are much faster
            than those that write 32.
        min_reduction: A Conv that sums fewer products per output stays float: for depthwise ones rescaling costs more
            than integers win.
        fused_int8_heads: Head sizes that fused INT8 attention takes; empty where there is none. A block that only the
            FP16 one takes stays float.
        fused_int8_tokens: Most queries or keys that it takes.
        fused_half: What is float is FP16, so that such a block gets that kernel; elsewhere it is quantized like all.
        int4_blocks: Sizes of int4 blocks along a weight's summed axis that the runtime takes, best first; empty: none.
    """

    weighted_ops: frozenset[str] = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
    product_ops: frozenset[str] = frozenset({"MatMul"})
    whole_attention: bool = False
    weights_pair_safe: bool = False
    zero_points: Literal["none", "folded", "free"] = "none"
    conv_outputs: bool = False
    min_reduction: int = 1
    fused_int8_heads: tuple[int, ...] = ()
    fused_int8_tokens: int = 0
    fused_half: bool = False
    int4_blocks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ScanForm:
    """How the runtime takes a selective scan best.

    Attributes:
        channels_last: The state lies as [N, channels], its long axis last.
        chunk: Steps of a chunk where the recurrence can be written in matrix products; 0 keeps one step at a time.
        steps: A model that computes all steps at once by some parallel algorithm is brought back to single steps.
    """

    channels_last: bool = False
    chunk: int = 0
    steps: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """A row of the table of targets.

    Attributes:
        name: What the user types.
        opset: The opset of the emitted graph; sources below or above are converted.
        emitter: "module:attribute" of an `Emitter` factory taking this Target.
        host: Target whose emitter writes host.onnx beside model.onnx, from the same plan; empty for none.
        runtime: Human-readable range of runtime versions, for the manifest.
        rules: One line each for `qcompile targets`: what this target enforces.
        native_ops: Standard operators newer than the common ground that the runtime takes as they are
            ("LayerNormalization", "Gelu", "RMSNormalization"); others are decomposed.
        spellings: Names of passes that write operators as others that the runtime computes faster.
        domains: Operator domains that may stand in the emitted graph.
        int4_opset: Least opset of a graph with int4 blocks.
        int4_domain: Domain of the operator that takes them; empty for ai.onnx.
    """

    name: str
    title: str
    opset: int
    emitter: str
    aliases: tuple[str, ...] = ()
    activation: QuantScheme = INT8_ACTIVATION
    placement: Placement = Placement()
    scan_form: ScanForm = ScanForm()
    carrier: Carrier = "fp32"
    carriers: tuple[Carrier, ...] = ("fp32",)
    host: str = ""
    runtime: str = ""
    rules: tuple[str, ...] = ()
    native_ops: frozenset[str] = frozenset({"LayerNormalization"})
    spellings: tuple[str, ...] = ()
    domains: frozenset[str] = frozenset({""})
    int4_opset: int = 0
    int4_domain: str = ""
    options: dict[str, str] = field(default_factory=dict)
