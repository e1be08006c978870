"""Other tools' options, in our words."""

from __future__ import annotations

import shlex

import pytest

from qcompiler.commands.habits import rewrite, uses_habits
from qcompiler.errors import UsageError


@pytest.mark.parametrize(
    ("typed", "ours"),
    [
        ("--onnx_path m.onnx --output_path out", "m.onnx --output out"),
        ("m.onnx --calibration_data c.npz", "m.onnx --calib c.npz"),
        ("m.onnx --calibration_data_path=c.npz", "m.onnx --calib c.npz"),
        ("m.onnx --calibration_method max", "m.onnx --method minmax"),
        ("--nodes_to_exclude a b m.onnx", "--exclude a --exclude b m.onnx"),
        ("m.onnx --op_types_to_exclude Conv Gemm -v", "m.onnx --exclude-op Conv --exclude-op Gemm -v"),
        ("m.onnx --minShapes x:1x2 --optShapes=x:2x2", "m.onnx --min-shapes x:1x2 --opt-shapes x:2x2"),
        ("m.onnx --quantize_mode int8 --per_channel", "m.onnx"),
        ("m.onnx --passes -smooth,+rotate", "m.onnx --passes=-smooth,+rotate"),
        ("m.onnx --target orin", "m.onnx --target orin"),
    ],
)
def test_rewrites(typed: str, ours: str) -> None:
    assert rewrite(shlex.split(typed))[0] == shlex.split(ours)


def test_what_has_no_effect_is_said() -> None:
    assert rewrite(["m.onnx", "--opset", "17", "--per_channel"])[1] == [
        "--opset has no effect: the target sets the opset",
        "--per_channel has no effect: weights are always per channel",
    ]


@pytest.mark.parametrize(
    ("typed", "message"),
    [("m.onnx --quantize_mode fp8", "'fp8' is not supported"), ("m.onnx --calibration_data", "expected one argument")],
)
def test_what_cannot_be_followed_is_an_error(typed: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rewrite(shlex.split(typed))


def test_habits_show() -> None:
    assert uses_habits(["--onnx_path=m.onnx"])
    assert not uses_habits(["m.onnx", "--calib", "c.npz"])
