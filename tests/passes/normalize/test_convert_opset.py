"""Opsets up and down; what cannot be said is an error with a name."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from qcompiler.errors import UnsupportedError
from qcompiler.passes.normalize.convert_opset import ConvertOpset
from tests.equivalence import largest_error, normalized, ops_of, random_feeds


def model_of(
    opset: int, body: str, inputs: str = "float[2, 3, 4] x", outputs: str = "float[A, B, C] y", weights: str = ""
) -> ir.Model:
    held = f"<{weights}>" if weights else ""
    return ir.from_onnx_text(
        f'<ir_version: 4, opset_import: ["" : {opset}]>\nm ({inputs}) => ({outputs}) {held} {{\n  {body}\n}}'
    )


UPGRADED = {
    "softmax-before-13": (9, "y = Softmax<axis = 1>(x)"),
    "softmax-default": (11, "y = LogSoftmax(x)"),
    "clip-attributes": (9, "y = Clip<min = -0.1, max = 0.2>(x)"),
    "clip-one-side": (9, "y = Clip<max = 0.2>(x)"),
    "slice-attributes": (9, "y = Slice<axes = [2], starts = [1], ends = [3]>(x)"),
    "pad-attributes": (9, "y = Pad<pads = [0, 1, 0, 0, 0, 2], value = 0.5>(x)"),
    "split-attribute": (11, "a, b = Split<axis = 1, split = [1, 2]>(x)\n  y = Concat<axis = 1>(b, a)"),
    "split-equal": (11, "a, b = Split<axis = 2>(x)\n  y = Sub(a, b)"),
    "unsqueeze-squeeze": (11, "a = Unsqueeze<axes = [0]>(x)\n  b = Relu(a)\n  y = Squeeze<axes = [0]>(b)"),
    "reduce-sum": (11, "y = ReduceSum<axes = [1], keepdims = 1>(x)"),
    "reduce-mean": (17, "y = ReduceMean<axes = [2], keepdims = 1>(x)"),
    "reduce-all": (11, "y = ReduceMax<keepdims = 1>(x)"),
    "top-k": (9, "y, i = TopK<axis = 2, k = 2>(x)"),
    "dropout": (7, "y = Dropout<ratio = 0.5>(x)"),
}


@pytest.mark.parametrize("case", list(UPGRADED))
def test_upgrade_keeps_the_function(case: str) -> None:
    opset, body = UPGRADED[case]
    source = model_of(opset, body)
    for target in (19, 23):
        result = normalized(source, target)
        assert result.opset_imports[""] == target
        assert largest_error(source, result, random_feeds(source)) < 1e-6


def test_upsample_becomes_resize_with_the_same_samples() -> None:
    source = model_of(
        9,
        'y = Upsample<mode = "nearest">(x, s)',
        "float[1, 1, 3, 5] x",
        "float[A, B, C, D] y",
        "float[4] s = {1, 1, 2, 3}",
    )
    result = normalized(source)
    assert ops_of(result) == ["Resize"]
    assert largest_error(source, result, random_feeds(source)) == 0.0


@pytest.mark.parametrize(
    ("opset", "body"),
    [
        (25, "y = Reshape<allowzero = 0>(x, s)"),
        (24, "y = Swish(x)"),
        (23, "y = RMSNormalization<axis = -1>(x, g)"),
        (22, "a = Mish(x)\n  y = HardSwish(a)"),
        (21, "y = GroupNormalization<num_groups = 3>(x, h, h)"),
        (20, 'a = Gelu(x)\n  y = Gelu<approximate = "tanh">(a)'),
        (19, "y = LayerNormalization(x, g)"),
    ],
)
def test_downgrade_keeps_the_function(opset: int, body: str) -> None:
    weights = "float[4] g = {1, 2, 3, 4}, float[3] h = {1, 2, 3}, int64[3] s = {2, 4, 3}"
    source = model_of(opset, body, weights=weights)
    result = normalized(source, 19, frozenset())
    assert result.opset_imports[""] == 19
    assert result.ir_version == 9
    # without this runtime's own kernel the reference is the definition: rounding of a few operations
    assert largest_error(source, result, random_feeds(source)) < 1e-5


def test_what_the_older_opset_lacks_is_named() -> None:
    model = model_of(
        20,
        '[sample] y = GridSample<mode = "linear">(x, g)',
        "float[1, 1, 2, 2] x, float[1, 2, 2, 2] g",
        "float[A, B, C, D] y",
    )
    ConvertOpset(19).run(model)
    assert model.graph[0].attributes["mode"].value == "bilinear"
    five = model_of(
        20, "[sample] y = GridSample(x, g)", "float[1, 1, 2, 2, 2] x, float[1, 2, 2, 2, 3] g", "float[A, B, C, D, E] y"
    )
    five.graph[0].op_type = "StringSplit"
    with pytest.raises(UnsupportedError, match=r"sample: StringSplit does not exist in opset 19"):
        ConvertOpset(19).run(five)


def test_newer_attribute_is_refused_and_its_default_is_dropped() -> None:
    kept = model_of(24, 'y = Cast<to = 10, saturate = 1, round_mode = "up">(x)', outputs="float16[A, B, C] y")
    ConvertOpset(19).run(kept)
    assert sorted(kept.graph[0].attributes) == ["saturate", "to"]
    other = model_of(24, '[cast] y = Cast<to = 10, round_mode = "down">(x)', outputs="float16[A, B, C] y")
    with pytest.raises(UnsupportedError, match="cast: Cast of opset 19 has no attribute 'round_mode'"):
        ConvertOpset(19).run(other)


def test_second_run_changes_nothing() -> None:
    model = model_of(13, "y = Relu(x)")
    assert ConvertOpset(19).run(model).modified
    assert not ConvertOpset(19).run(model).modified
