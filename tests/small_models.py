"""A transformer block and a small CNN, with weights from a seed, and inputs for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.session import Feeds
from tests.building import build

_BLOCK = """block (float[N, S, 32] x) => (float[N, S, 8] y) {
    [ln1] n = LayerNormalization<axis = -1>(x, g1, b1)
    [q] q0 = MatMul(n, wq) q1 = Add(q0, bq) q2 = Reshape(q1, heads) q3 = Transpose<perm = [0, 2, 1, 3]>(q2)
    [k] k0 = MatMul(n, wk) k1 = Add(k0, bk) k2 = Reshape(k1, heads) k3 = Transpose<perm = [0, 2, 3, 1]>(k2)
    [v] v0 = MatMul(n, wv) v1 = Add(v0, bv) v2 = Reshape(v1, heads) v3 = Transpose<perm = [0, 2, 1, 3]>(v2)
    [scores] s0 = MatMul(q3, k3) s1 = Mul(s0, root) p = Softmax<axis = -1>(s1)
    [mix] m0 = MatMul(p, v3) m1 = Transpose<perm = [0, 2, 1, 3]>(m0) m2 = Reshape(m1, joined)
    [out] o0 = MatMul(m2, wo) o1 = Add(o0, bo) r1 = Add(o1, x)
    [ln2] f = LayerNormalization<axis = -1>(r1, g2, b2)
    [up] u0 = MatMul(f, wu) u1 = Add(u0, bu) e0 = Div(u1, two) e1 = Erf(e0) e2 = Add(e1, one) e3 = Mul(u1, e2)
    e4 = Mul(e3, half) [down] d0 = MatMul(e4, wd) d1 = Add(d0, bd) r2 = Add(d1, r1)
    [head] y = MatMul(r2, wh) }"""

_CNN = """cnn (float[N, 3, 16, 16] x) => (float[N, 10] y) {
    [stem] c0 = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, k0, b0) a0 = Relu(c0)
    [deep] c1 = Conv<pads = [1, 1, 1, 1], group = 16>(a0, k1, b1) a1 = Relu(c1)
    [point] c2 = Conv(a1, k2, b2) s = Add(c2, a0)
    [mid] c3 = Conv<pads = [1, 1, 1, 1]>(s, k3, b3) a3 = Relu(c3)
    [pool] p = GlobalAveragePool(a3) f = Flatten(p)
    [fc] y = Gemm<transB = 1>(f, w, b) }"""


def _array(random: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    """Numbers that keep the size of what they multiply."""
    gain = 1 / np.sqrt(np.prod(shape[1:]) if len(shape) > 2 else shape[0])
    return np.asarray(random.standard_normal(shape) * gain, np.float32)


def transformer_block() -> ir.Model:
    """Pre-norm attention and MLP (GELU spelled with Erf), width 32, four heads, and a head."""
    random = np.random.default_rng(11)
    weights: dict[str, Any] = {f"w{name}": _array(random, 32, 32) for name in "qkvo"}
    weights |= {"wu": _array(random, 32, 64), "wd": _array(random, 64, 32), "wh": _array(random, 32, 8)}
    weights |= {f"b{name}": _array(random, 32) for name in ("q", "k", "v", "o", "d", "1", "2")} | {
        "bu": _array(random, 64)
    }
    weights |= {f"g{name}": 1 + 0.1 * _array(random, 32) for name in "12"}
    numbers = {"root": 8**-0.5, "two": 2**0.5, "one": 1.0, "half": 0.5}
    weights |= {name: np.float32(value) for name, value in numbers.items()}
    return build(_BLOCK, 17, heads=np.array([0, 0, 4, 8]), joined=np.array([0, 0, 32]), **weights)


def small_cnn() -> ir.Model:
    """Strided, depthwise, pointwise and plain Conv with a residual, pooled, and a Gemm."""
    random = np.random.default_rng(12)
    shapes = {"k0": (16, 3, 3, 3), "k1": (16, 1, 3, 3), "k2": (16, 16, 1, 1), "k3": (24, 16, 3, 3)}
    weights: dict[str, Any] = {name: _array(random, *shape) * 2 for name, shape in shapes.items()}
    weights |= {f"b{index}": _array(random, size) for index, size in enumerate((16, 16, 16, 24))}
    return build(_CNN, 17, w=_array(random, 10, 24), b=_array(random, 10), **weights)


def block_batches(count: int = 6) -> list[Feeds]:
    """Batches of two sequences of twelve."""
    random = np.random.default_rng(13)
    return [{"x": random.standard_normal((2, 12, 32)).astype(np.float32)} for _ in range(count)]


def cnn_batches(count: int = 6) -> list[Feeds]:
    """Batches of two images."""
    random = np.random.default_rng(14)
    return [{"x": random.standard_normal((2, 3, 16, 16)).astype(np.float32)} for _ in range(count)]
