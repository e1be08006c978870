"""Small selective scans as ONNX Scan, in the forms that exporters write."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.passes.normalize.infer_shapes import InferShapes
from tests.building import Array
from tests.building import build as build_text

CHANNELS, STATES = 12, 4
HEADS, HEAD, WIDTH = 3, 8, 16

SUM_BOUND = 2e-6
"""Sums of 16 products, rounded in another order: 16 * 2^-24, and as much from the steps before, which decay."""


def build(text: str, **constants: Array) -> ir.Model:
    """As tests.building, with bodies that read constants of the graph outside."""
    model = ir.from_proto(ir.to_proto(build_text(text, 21, **constants)))  # finds outer values by name
    InferShapes().run(model)
    return model


def mamba(backwards: bool = False, body: str = "", outputs: str = "") -> ir.Model:
    """typeseg's form: axes appear inside of the body, which reads A and D from outside; D is part of the step.

    Args:
        body: Lines of the body before its last, instead of the usual.
    """
    direction = ", ".join("1" if backwards else "0" for _ in range(4))
    rates = -np.arange(1, STATES + 1, dtype=np.float32) * np.ones((CHANNELS, 1), np.float32)
    text = f"""
    agraph (float[T,{CHANNELS}] dt0, float[T,{CHANNELS}] x, float[T,{STATES}] B, float[T,{STATES}] C)
        => (float[T,{CHANNELS}] out{outputs}) {{
      dt = Softplus (dt0)
      last, y = Scan <num_scan_inputs = 4, scan_input_directions = [{direction}],
                      scan_output_directions = [{direction[:1]}], body = step (float[{CHANNELS},{STATES}] h,
          float[{CHANNELS}] dt_t, float[{CHANNELS}] x_t, float[{STATES}] B_t, float[{STATES}] C_t)
          => (float[{CHANNELS},{STATES}] h_next, float[{CHANNELS}] y_t) {{
        {body or MAMBA_STEP}
        xD = Mul (x_t, D)
        y_t = Add (sum, xD)
      }}> (zeros, dt, x, B, C)
      sigmoid = Sigmoid (x)
      z = Mul (x, sigmoid)
      out = Mul (y, z)
    }}"""
    return build(text, zeros=np.zeros((CHANNELS, STATES), np.float32), A=rates, D=np.ones(CHANNELS, np.float32),
                 one=np.array([1]), zero=np.array([0]))  # fmt: skip


MAMBA_STEP = """
        dt_c = Unsqueeze (dt_t, one)
        dtA = Mul (dt_c, A)
        a = Exp (dtA)
        x_c = Unsqueeze (x_t, one)
        B_r = Unsqueeze (B_t, zero)
        dtB = Mul (dt_c, B_r)
        b = Mul (x_c, dtB)
        ah = Mul (a, h)
        h_next = Add (ah, b)
        C_r = Unsqueeze (C_t, zero)
        hC = Mul (h_next, C_r)
        sum = ReduceSum <keepdims = 0> (hC, one)"""


def mamba2(backwards: bool = False, read: str = "", exponential: str = "Exp") -> ir.Model:
    """The form of `models/nets/ssd.py`: a number a head decays, exp(z) is taken outside, every axis is in place."""
    direction = ", ".join("1" if backwards else "0" for _ in range(4))
    return build(
        f"""
    agraph (float[T,batch,{HEADS}] z, float[T,batch,{HEADS},{HEAD},1] x, float[T,batch,1,1,{WIDTH}] B,
            float[T,batch,1,{WIDTH},1] C, float[batch,{HEADS},{HEAD},{WIDTH}] first)
        => (float[T,batch,{HEADS},{HEAD},1] y, float[batch,{HEADS},{HEAD},{WIDTH}] last) {{
      negative = Abs (z)
      z_n = Neg (negative)
      decay = {exponential} (z_n)
      decay_4 = Unsqueeze (decay, axes)
      last, y = Scan <num_scan_inputs = 4, scan_input_directions = [{direction}],
                      scan_output_directions = [{direction[:1]}],
                      body = step (float[batch,{HEADS},{HEAD},{WIDTH}] h, float[batch,{HEADS},1,1] a_t,
          float[batch,{HEADS},{HEAD},1] x_t, float[batch,1,1,{WIDTH}] B_t, float[batch,1,{WIDTH},1] C_t)
          => (float[batch,{HEADS},{HEAD},{WIDTH}] h_next, float[batch,{HEADS},{HEAD},1] y_t) {{
        ah = Mul (a_t, h)
        b = Mul (x_t, B_t)
        h_next = Add (ah, b)
        {read or "y_t = MatMul (h_next, C_t)"}
      }}> (first, decay_4, x, B, C)
    }}""",
        axes=np.array([3, 4]),
    )
