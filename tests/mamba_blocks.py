"""Whole Mamba blocks of a few channels, with weights from a seed: over a sequence, and one step between its states."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from tests.recurrences import HEAD, HEADS, MAMBA_STEP, WIDTH, build

MODEL, CHANNELS, STATES, RANK, TAPS = 16, 24, 4, 6, 4
PLANTED = 3
"""The channel of y that `outlier` makes large."""

_PROJECTIONS = """
      dbc = MatMul (x, w_x)
      dt_low, B, C = Split <axis = -1> (dbc, parts)
      dt_0 = MatMul (dt_low, w_dt)
      dt_1 = Add (dt_0, b_dt)
      dt = Softplus (dt_1)"""
_GATE = """
      sigmoid_z = Sigmoid (z)
      gate = Mul (z, sigmoid_z)
      loud = Mul (y, factor)
      gated = Mul (loud, gate)"""


def mamba_block(outlier: float = 1.0, *, behind: str = "out = MatMul (gated, w_out)", outputs: str = "") -> ir.Model:
    """u [T, MODEL] to out: in_proj, SiLU, projections, scan, gate, out_proj.

    Args:
        outlier: By what channel PLANTED of y is multiplied, and its row of out_proj divided.
        behind: What reads the gated y.
    """
    return build(
        f"""
    agraph (float[T,{MODEL}] u) => (float[T,{MODEL}] out{outputs}) {{
      both = MatMul (u, w_in)
      x_0, z = Split <axis = -1, num_outputs = 2> (both)
      sigmoid_x = Sigmoid (x_0)
      x = Mul (x_0, sigmoid_x)
      {_PROJECTIONS}
      last, y = Scan <num_scan_inputs = 4, body = step (float[{CHANNELS},{STATES}] h, float[{CHANNELS}] dt_t,
          float[{CHANNELS}] x_t, float[{STATES}] B_t, float[{STATES}] C_t)
          => (float[{CHANNELS},{STATES}] h_next, float[{CHANNELS}] y_t) {{
        {MAMBA_STEP}
        xD = Mul (x_t, D)
        y_t = Add (sum, xD)
      }}> (zeros, dt, x, B, C)
      {_GATE}
      {behind}
    }}""",
        zeros=np.zeros((CHANNELS, STATES), np.float32),
        one=np.array([1]),
        zero=np.array([0]),
        last_axis=np.array([-1]),
        **_weights(outlier),
    )


_RMS = """
      square = Pow (gated, two)
      mean = ReduceMean <keepdims = 1> (square, last_axis)
      shifted = Add (mean, epsilon)
      root = Sqrt (shifted)
      scaled = Div (gated, root)
      normed = Mul (gain, scaled)"""
LAYER_NORM = "normed = LayerNormalization <axis = -1> (gated, gain, bias)"


def mamba2_block(*, behind: str = "out = MatMul (normed, w_out)", norm: str = _RMS) -> ir.Model:
    """x, B, C and decays to out: scan by heads, gate, RMSNorm, out_proj."""
    inner, random = HEADS * HEAD, np.random.default_rng(5)
    return build(
        f"""
    agraph (float[T,batch,{HEADS}] decays, float[T,batch,{HEADS},{HEAD},1] x, float[T,batch,1,1,{WIDTH}] B,
            float[T,batch,1,{WIDTH},1] C, float[batch,{HEADS},{HEAD},{WIDTH}] first, float[T,batch,{inner}] z)
        => (float[T,batch,{MODEL}] out) {{
      negative = Abs (decays)
      z_n = Neg (negative)
      decay = Exp (z_n)
      decay_4 = Unsqueeze (decay, axes)
      last, y_heads = Scan <num_scan_inputs = 4, body = step (float[batch,{HEADS},{HEAD},{WIDTH}] h,
          float[batch,{HEADS},1,1] a_t, float[batch,{HEADS},{HEAD},1] x_t, float[batch,1,1,{WIDTH}] B_t,
          float[batch,1,{WIDTH},1] C_t)
          => (float[batch,{HEADS},{HEAD},{WIDTH}] h_next, float[batch,{HEADS},{HEAD},1] y_t) {{
        ah = Mul (a_t, h)
        b = Mul (x_t, B_t)
        h_next = Add (ah, b)
        y_t = MatMul (h_next, C_t)
      }}> (first, decay_4, x, B, C)
      y = Reshape (y_heads, joined)
      sigmoid_z = Sigmoid (z)
      gate = Mul (z, sigmoid_z)
      gated = Mul (y, gate)
      {norm}
      {behind}
    }}""",
        axes=np.array([3, 4]), joined=np.array([0, 0, inner]), last_axis=np.array([-1]),
        two=np.asarray(2, np.float32), epsilon=np.asarray(1e-5, np.float32), bias=np.full(inner, 0.3, np.float32),
        gain=(0.5 + random.random(inner)).astype(np.float32), w_out=_matrix(random, inner, MODEL),
    )  # fmt: skip


def mamba_step() -> ir.Model:
    """One token u [batch, MODEL] and the states to out and the next states: the step of `mamba_block`, with a
    convolution over the last TAPS inputs."""
    random = np.random.default_rng(6)
    return build(
        f"""
    agraph (float[batch,{MODEL}] u, float[batch,{CHANNELS},{TAPS - 1}] past_conv_state_0,
            float[batch,{CHANNELS},{STATES}] past_ssm_state_0)
        => (float[batch,{MODEL}] out, float[batch,{CHANNELS},{TAPS - 1}] present_conv_state_0,
            float[batch,{CHANNELS},{STATES}] present_ssm_state_0) {{
      both = MatMul (u, w_in)
      x_0, z = Split <axis = -1, num_outputs = 2> (both)
      column = Unsqueeze (x_0, two)
      joined = Concat <axis = 2> (past_conv_state_0, column)
      mixed = Conv <group = {CHANNELS}> (joined, w_conv, b_conv)
      present_conv_state_0 = Slice (joined, one, end, two)
      x_1 = Squeeze (mixed, two)
      sigmoid_x = Sigmoid (x_1)
      x = Mul (x_1, sigmoid_x)
      {_PROJECTIONS}
      dt_c = Unsqueeze (dt, two)
      dtA = Mul (dt_c, A)
      a = Exp (dtA)
      xdt = Mul (x, dt)
      xdt_c = Unsqueeze (xdt, two)
      B_r = Unsqueeze (B, one)
      b = Mul (xdt_c, B_r)
      ah = Mul (a, past_ssm_state_0)
      present_ssm_state_0 = Add (ah, b)
      C_c = Unsqueeze (C, two)
      y_c = MatMul (present_ssm_state_0, C_c)
      y_0 = Squeeze (y_c, two)
      xD = Mul (x, D)
      y = Add (y_0, xD)
      {_GATE}
      out = MatMul (gated, w_out)
    }}""",
        one=np.array([1]), two=np.array([2]), end=np.array([TAPS]), b_conv=np.zeros(CHANNELS, np.float32),
        w_conv=random.standard_normal((CHANNELS, 1, TAPS)).astype(np.float32), **_weights(1.0),
    )  # fmt: skip


def _weights(outlier: float) -> dict[str, Any]:
    random = np.random.default_rng(4)
    factor = np.ones(CHANNELS, np.float32)
    factor[PLANTED] = outlier
    return {
        "w_in": _matrix(random, MODEL, 2 * CHANNELS),
        "w_x": _matrix(random, CHANNELS, RANK + 2 * STATES),
        "w_dt": _matrix(random, RANK, CHANNELS),
        "b_dt": np.full(CHANNELS, -2, np.float32),
        "w_out": _matrix(random, CHANNELS, MODEL) / factor[:, None],
        "parts": np.array([RANK, STATES, STATES]),
        "A": -np.arange(1, STATES + 1, dtype=np.float32) * np.ones((CHANNELS, 1), np.float32),
        "D": np.ones(CHANNELS, np.float32),
        "factor": factor,
    }


def _matrix(random: np.random.Generator, rows: int, columns: int) -> Any:
    return (random.standard_normal((rows, columns)) / np.sqrt(rows)).astype(np.float32)
