"""Everything a compile can be asked for, with its defaults: the command line, the TOML file and Python share it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from qcompiler.lookup import Form
from qcompiler.target import Carrier

CalibrationMethod = Literal["auto", "minmax", "percentile", "mse", "entropy"]
EqualizeMethod = Literal["none", "auto", "os_plus", "smooth", "outlier_tune", "repq", "bounded_fold"]
CalibrationInput = str | Path | Iterable[Mapping[str, Any]] | Any
"""A path or "module:factory", an iterable of dicts, or an onnxruntime CalibrationDataReader."""


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """Options of one compile; field names are the flag names with underscores.

    Attributes:
        calib: None means seeded synthetic inputs, with a warning.
        validate: Samples to verify on; None holds back a share of `calib`.
        method: How clipping thresholds are chosen; "percentile" takes `percentile`, "auto" what measures best.
        equalize: Shift and scale channels before quantizing, at no change of the function: "none", "os_plus", "smooth"
            (SmoothQuant), "outlier_tune", "repq" and "bounded_fold" (norms by channel), or "auto", the best at each
            site; all are kept only where the outputs gain. "recipe" is "auto" where norms have large channels and the
            outputs stay below `goal_sqnr` on four real samples and behind rotations, "bounded_fold" for other vision
            transformers below 8 bits, and "none" for all else.
        bias_correction: "auto" adds to each layer's bias what quantization shifts in its mean, where the outputs gain;
            "none" does not.
        rounding: Codes of weights: "nearest" to each, "gptq" (on data, errors made good by the weights still to come),
            or "auto", gptq where the outputs gain.
        rotate: Before equalizing, rotate what layers hand to one another, at no change of the function: "none", "auto"
            (the kinds that gain at the outputs), "all", or kinds separated by commas: "residual", "heads", and with
            added nodes "down", "gated", "scores". "recipe" is, where a recurrence's output is gated (Mamba), "gated" if
            the outputs gain, "auto" where `equalize` looks at norms and finds large channels in front of a residual
            stream, and "none" for all else.
        split_units: "auto" computes hidden units of MLPs apart in float that are far larger than all others, at no
            change of the function, where the outputs are below `goal_sqnr` and gain; "none" does not.
        zero_points: "auto" gives one-sided tensors (of ReLU, GELU, Softmax) a zero point, where the target's kernels or
            the biases behind take it at no cost; "none" keeps all grids symmetric.
        states: "int8" carries the states of recurrences from call to call as codes with one scale each: inputs and
            outputs of one-step graphs become int8; "float" leaves them as they are.
        search: How long "auto" measures: "fast" tries the clipping rules and keeps groups of nodes float, "full" goes
            on to rules by group and single nodes, on more samples, and chooses signs and orders of rotations by site.
        goal_sqnr: Output SQNR in dB (on calibration samples) that makes `float_share` unnecessary.
        float_share: Largest share of the multiply-adds that may stay float because measurement shows that their nodes
            hurt the outputs most; 0 quantizes all. Used only where the outputs stay below `goal_sqnr`.
        bits: Bits of weights and activations, "w8a8", "w6a6", ...; below 8 a model of accuracy in int8 containers.
            "w4a16" is int4 weights in blocks and float activations, where the target has them.
        bits_file: TOML or JSON of node regex to such words, for nodes that differ; of several matches the last counts.
        softmax: Levels of attention probabilities: "uniform"; "tan", "log2" or "log_sqrt2", by a lookup table; "auto",
            the kind that leaves the product with the values closest to float.
        softmax_bits: Bits of these levels, 3 to 8; None takes those of the product's activations.
        softmax_form: "integer" has levels on the 8-bit grid, for integer kernels; "float" the exact levels and a float
            product, to simulate.
        carrier: Float type of the emitted graph; None takes the target's default.
        include: Regular expressions on node names: only these are quantized. Matching nothing is an error.
        exclude: Regular expressions on node names that stay float. Matching nothing is an error.
        exclude_op: Operator types that stay float.
        plan: A plan.json to carry out in place of a planner's.
        min_sqnr: Lowest signal to quantization noise in dB that any float output may have.
        min_cosine: Lowest mean cosine that any float output may have.
        max_samples: Calibration samples to read at most; None reads all.
        shapes: Input name to (min, opt, max) shapes, for optimization profiles and synthetic inputs.
        passes: Edits of the pass list: "+name" adds, "-name" removes.
        dump_after: Names of passes after which the model is written to `dump_dir`.
        build_check: NVIDIA's parser and builder: "auto" (where installed), "on" (an error where absent), "off".
        format: "ort" writes model.ort besides, onnxruntime's own format, for its minimal builds.
        strict: A rewrite that its certificate takes back is a missed gate.
        threads: onnxruntime threads while compiling; 0 lets it choose.
    """

    target: str = "ort-cpu"
    calib: CalibrationInput | None = None
    validate: CalibrationInput | None = None
    preprocess: str | None = None
    method: CalibrationMethod = "auto"
    percentile: float = 99.99
    equalize: EqualizeMethod | Literal["recipe"] = "recipe"
    bias_correction: Literal["none", "auto"] = "none"
    rounding: Literal["nearest", "gptq", "auto"] = "nearest"
    rotate: str = "recipe"
    split_units: Literal["none", "auto"] = "auto"
    zero_points: Literal["none", "auto"] = "auto"
    states: Literal["float", "int8"] = "float"
    search: Literal["fast", "full"] = "fast"
    goal_sqnr: float = 25.0
    float_share: float = 0.1
    bits: str = "w8a8"
    bits_file: Path | None = None
    softmax: Literal["uniform", "tan", "log2", "log_sqrt2", "auto"] = "uniform"
    softmax_bits: int | None = None
    softmax_form: Form = "integer"
    carrier: Carrier | None = None
    portable: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    exclude_op: tuple[str, ...] = ()
    plan: Path | None = None
    min_sqnr: float | None = None
    min_cosine: float | None = None
    max_samples: int | None = None
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    passes: tuple[str, ...] = ()
    dump_after: tuple[str, ...] = ()
    dump_dir: Path | None = None
    build_check: Literal["auto", "on", "off"] = "auto"
    verify: bool = True
    format: Literal["onnx", "ort"] = "onnx"
    strict: bool = False
    seed: int = 0
    threads: int = 0
