"""A norm and the layers that read it, in the forms in which these work together behind, or do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from tests.architectures import HEADS, SIZE, WIDTH, canonical
from tests.building import build

NORM = "n = LayerNormalization<axis = -1>(x, gain, bias)\n"
_HEADS = """{i}2 = Reshape({i}1, heads) {i}3 = Transpose<perm = [0, 2, 1, 3]>({i}2)
"""
_SCORES = """k5 = Transpose<perm = [0, 1, 3, 2]>({k}) s = MatMul({q}, k5) p = Softmax<axis = -1>(s) m = MatMul(p, {v})
    m1 = Transpose<perm = [0, 2, 1, 3]>(m) end = Reshape(m1, joined)
"""
_OUT = "y = MatMul(end, w_out)"
_QKV = "".join(f"{i}0 = MatMul(n, w_{i}) {i}1 = Add({i}0, b_{i}) " + _HEADS.format(i=i) for i in "qkv")
_FUSED = "z0 = MatMul(n, w_all) z1 = Add(z0, b_all)\n"
_TURN = """{i}_left = Slice({i}3, zero, half, last) {i}_right = Slice({i}3, half, size, last)
    {i}_turned = Neg({i}_right) {i}_swapped = Concat<axis = -1>({i}_turned, {i}_left)
    {i}_cos = Mul({i}3, cos) {i}_sin = Mul({i}_swapped, sin) {i}4 = Add({i}_cos, {i}_sin)
"""
_CACHED = "k6 = Concat<axis = 2>(past_k, k4) v6 = Concat<axis = 2>(past_v, v3)\n"
_GATED = "g1 = Sigmoid(g0) g2 = Mul(g0, g1) end = Mul(g2, u0)\n"

JOINT = {
    "q, k, v": NORM + _QKV + _SCORES.format(q="q3", k="k3", v="v3") + _OUT,
    "one layer, split": NORM + _FUSED + "q1, k1, v1 = Split<axis = -1, num_outputs = 3>(z1)\n"
    + "".join(_HEADS.format(i=i) for i in "qkv") + _SCORES.format(q="q3", k="k3", v="v3") + _OUT,
    "one layer, gathered": NORM + _FUSED + """z2 = Reshape(z1, by_three) z3 = Transpose<perm = [2, 0, 3, 1, 4]>(z2)
    q3 = Gather<axis = 0>(z3, at_0) k3 = Gather<axis = 0>(z3, at_1) v3 = Gather<axis = 0>(z3, at_2)
    """ + _SCORES.format(q="q3", k="k3", v="v3") + _OUT,
    "rotary and a cache": NORM + _QKV + _TURN.format(i="q") + _TURN.format(i="k") + _CACHED
    + _SCORES.format(q="q4", k="k6", v="v6") + _OUT,
    "masked": NORM + _QKV + """f0 = Cast<to = 1>(attention_mask) f1 = Sub(one, f0) f2 = Mul(f1, lowest)
    f3 = Unsqueeze(f2, places) k5 = Transpose<perm = [0, 1, 3, 2]>(k3) s0 = MatMul(q3, k5) s = Add(s0, f3)
    p = Softmax<axis = -1>(s) m = MatMul(p, v3) m1 = Transpose<perm = [0, 2, 1, 3]>(m) end = Reshape(m1, joined)
    """ + _OUT,
    "gate and up": NORM + "g0 = MatMul(n, w_q) u0 = MatMul(n, w_k)\n" + _GATED + _OUT,
    "gate and up, split": NORM + _FUSED + "g0, u0, rest = Split<axis = -1, num_outputs = 3>(z1)\n" + _GATED + _OUT,
}  # fmt: skip

SINGLE = {
    "plain": NORM + "u = MatMul(n, w_q) r = Relu(u) y = MatMul(r, w_out)",
    "gelu": NORM + """u = MatMul(n, w_q) u1 = Add(u, b_q) e0 = Div(u1, root_2) e1 = Erf(e0) e2 = Add(e1, one)
    e3 = Mul(u1, e2) e4 = Mul(e3, point_5) y = MatMul(e4, w_out)""",
    "silu": NORM + "g0 = MatMul(n, w_q) g1 = Sigmoid(g0) r = Mul(g0, g1) y = MatMul(r, w_out)",
    "squared relu": NORM + "u = MatMul(n, w_q) r = Relu(u) r2 = Mul(r, r) y = MatMul(r2, w_out)",
    "a gate made of its own part": NORM + """u = MatMul(n, w_q) a0 = Slice(u, zero, half, last)
    a1 = ReduceMean<keepdims = 1>(a0, last) a2 = Sigmoid(a1) r = Mul(u, a2) y = MatMul(r, w_out)""",
    "another layer in a branch": NORM + """z = MatMul(n, w_wide) a, g0 = Split<axis = -1, num_outputs = 2>(z)
    d = MatMul(a, w_q) g1 = Sigmoid(g0) g2 = Mul(g0, g1) r = Mul(d, g2) y = MatMul(r, w_out)""",
    "attention beside an mlp": NORM + _QKV + _SCORES.format(q="q3", k="k3", v="v3") + """o = MatMul(end, w_out)
    u = MatMul(n, w_wide) r = Relu(u) d = MatMul(r, w_back) y = Add(o, d)""",
    "a sum of two layers": NORM + "a = MatMul(n, w_q) b = MatMul(n, w_k) r = Add(a, b) y = MatMul(r, w_out)",
    "outputs of the model": NORM + "y = MatMul(n, w_q)",
}  # fmt: skip


def joint_model(text: str, dtype: type = np.float32, *, length: str = "8", **given: Any) -> ir.Model:
    """Canonical; constants that `given` names replace those from the seed. `length` is that of a mask, "S" for any."""
    random = np.random.default_rng(21)

    def array(*shape: int) -> np.ndarray[Any, Any]:
        return np.asarray(random.standard_normal(shape) / np.sqrt(shape[0]), dtype)

    real = "float" if dtype is np.float32 else "float16"
    inputs, outputs = [f"{real}[N, S, {WIDTH}] x"], [f"{real}[N, S, {WIDTH}] y"]
    if "past_k" in text:
        inputs += [f"{real}[N, {HEADS}, P, {SIZE}] past_{i}" for i in "kv"]
        inputs += [f"{real}[S, {SIZE}] {name}" for name in ("cos", "sin")]
        outputs += [f"{real}[N, {HEADS}, T, {SIZE}] {i}6" for i in "kv"]
    if "attention_mask" in text:
        inputs.append(f"int64[N, {length}] attention_mask")
    constants: dict[str, Any] = {
        "gain": 1 + array(WIDTH), "bias": array(WIDTH), "w_all": array(WIDTH, 3 * WIDTH), "b_all": array(3 * WIDTH),
        "w_wide": array(WIDTH, 2 * WIDTH), "w_back": array(2 * WIDTH, WIDTH), "w_out": array(WIDTH, WIDTH),
        "heads": np.array([0, 0, HEADS, SIZE]), "joined": np.array([0, 0, WIDTH]), "zero": np.array([0]),
        "by_three": np.array([0, 0, 3, HEADS, SIZE]), "half": np.array([SIZE // 2]), "size": np.array([SIZE]),
        "last": np.array([-1]), "at_0": np.array(0), "at_1": np.array(1), "at_2": np.array(2),
        "one": dtype(1), "root_2": dtype(2**0.5), "point_5": dtype(0.5), "lowest": dtype(-1e4),
        "places": np.array([1, 2]),
    }  # fmt: skip
    constants |= {f"w_{i}": array(WIDTH, WIDTH) for i in "qkv"} | {f"b_{i}": array(WIDTH) for i in "qkv"}
    text = text if dtype is np.float32 else text.replace("Cast<to = 1>", "Cast<to = 10>")
    made = f"m ({', '.join(inputs)}) => ({', '.join(outputs)}) {{ {text} }}"
    return canonical(build(made, 18, **constants | given))


def joint_feeds(model: ir.Model, count: int = 4, positions: int = 8, past: int = 3) -> list[dict[str, Any]]:
    """Samples of one sequence; of a mask the last three positions are padding."""
    random, found = np.random.default_rng(22), []
    sizes = {"N": 1, "S": positions, "P": past}
    for _ in range(count):
        feeds: dict[str, Any] = {}
        for value in model.graph.inputs:
            assert value.shape is not None and value.dtype is not None
            shape = [item if isinstance(item, int) else sizes[str(item.value)] for item in value.shape]
            feeds[str(value.name)] = random.standard_normal(shape).astype(value.dtype.numpy())
        if "attention_mask" in feeds:
            feeds["attention_mask"] = (np.arange(8) < 5).astype(np.int64)[None]
        found.append(feeds)
    return found
