"""Transformer blocks as exporters write them, with weights from a seed: pre-LN ViT, post-LN BERT, LLaMA with GQA."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.passes.canonical.pipeline import canonical_passes
from qcompiler.passes.normalize.pipeline import COMMON_OPS, normalize_passes
from qcompiler.pipeline import Pipeline
from tests.building import build

WIDTH, HEADS, SIZE, HIDDEN = 16, 4, 4, 32

_ATTENTION = """
    q0{i} = MatMul({n}, wq{i}) q1{i} = Add(q0{i}, bq{i}) q2{i} = Reshape(q1{i}, heads)
    q3{i} = Transpose<perm = [0, 2, 1, 3]>(q2{i})
    k0{i} = MatMul({n}, wk{i}) k1{i} = Add(bk{i}, k0{i}) k2{i} = Reshape(k1{i}, heads)
    k3{i} = Transpose<perm = [0, 2, 3, 1]>(k2{i})
    v0{i} = MatMul({n}, wv{i}) v1{i} = Add(v0{i}, bv{i}) v2{i} = Reshape(v1{i}, heads)
    v3{i} = Transpose<perm = [0, 2, 1, 3]>(v2{i})
    s0{i} = MatMul(q3{i}, k3{i}) s1{i} = Mul(s0{i}, root) p{i} = Softmax<axis = -1>(s1{i})
    m0{i} = MatMul(p{i}, v3{i}) m1{i} = Transpose<perm = [0, 2, 1, 3]>(m0{i}) m2{i} = Reshape(m1{i}, joined)
    o0{i} = MatMul(m2{i}, wo{i}) o1{i} = Add(o0{i}, bo{i})"""

_MLP = """
    u0{i} = MatMul({n}, wu{i}) u1{i} = Add(u0{i}, bu{i}) e0{i} = Div(u1{i}, two) e1{i} = Erf(e0{i})
    e2{i} = Add(e1{i}, one) e3{i} = Mul(u1{i}, e2{i}) e4{i} = Mul(e3{i}, half)
    d0{i} = MatMul(e4{i}, wd{i}) d1{i} = Add(d0{i}, bd{i})"""

_PRE = (
    "n{i} = LayerNormalization<axis = -1>({x}, g1{i}, c1{i})"
    + _ATTENTION.replace("{n}", "n{i}")
    + "\n    r{i} = Add(o1{i}, {x}) f{i} = LayerNormalization<axis = -1>(r{i}, g2{i}, c2{i})"
    + _MLP.replace("{n}", "f{i}")
    + "\n    t{i} = Add(d1{i}, r{i})"
)
_POST = (
    _ATTENTION.replace("{n}", "{x}")
    + "\n    r{i} = Add(o1{i}, {x}) f{i} = LayerNormalization<axis = -1>(r{i}, g1{i}, c1{i})"
    + _MLP.replace("{n}", "f{i}")
    + "\n    a{i} = Add(f{i}, d1{i}) t{i} = LayerNormalization<axis = -1>(a{i}, g2{i}, c2{i})"
)
_RMS = """
    {to}p = Pow({x}, square) {to}m = ReduceMean<axes = [-1], keepdims = 1>({to}p) {to}e = Add({to}m, epsilon)
    {to}s = Sqrt({to}e) {to}d = Div({x}, {to}s) {to} = Mul({gain}, {to}d)"""
_LLAMA = (
    _RMS.format(to="n{i}", x="{x}", gain="g1{i}")
    + """
    q0{i} = MatMul(n{i}, wq{i}) q2{i} = Reshape(q0{i}, heads) q3{i} = Transpose<perm = [0, 2, 1, 3]>(q2{i})
    k0{i} = MatMul(n{i}, wk{i}) k2{i} = Reshape(k0{i}, groups) k3{i} = Transpose<perm = [0, 2, 1, 3]>(k2{i})
    k4{i} = Unsqueeze(k3{i}, place) k5{i} = Expand(k4{i}, repeat) k6{i} = Reshape(k5{i}, whole)
    k7{i} = Transpose<perm = [0, 1, 3, 2]>(k6{i})
    v0{i} = MatMul(n{i}, wv{i}) v2{i} = Reshape(v0{i}, groups) v3{i} = Transpose<perm = [0, 2, 1, 3]>(v2{i})
    v4{i} = Unsqueeze(v3{i}, place) v5{i} = Expand(v4{i}, repeat) v6{i} = Reshape(v5{i}, whole)
    s0{i} = MatMul(q3{i}, k7{i}) s1{i} = Mul(s0{i}, root) p{i} = Softmax<axis = -1>(s1{i})
    m0{i} = MatMul(p{i}, v6{i}) m1{i} = Transpose<perm = [0, 2, 1, 3]>(m0{i}) m2{i} = Reshape(m1{i}, joined)
    o0{i} = MatMul(m2{i}, wo{i}) r{i} = Add({x}, o0{i})"""
    + _RMS.format(to="f{i}", x="r{i}", gain="g2{i}")
    + """
    h0{i} = MatMul(f{i}, wg{i}) h1{i} = Sigmoid(h0{i}) h2{i} = Mul(h0{i}, h1{i}) u0{i} = MatMul(f{i}, wu{i})
    h3{i} = Mul(h2{i}, u0{i}) d0{i} = MatMul(h3{i}, wd{i}) t{i} = Add(r{i}, d0{i})"""
)


_PATCHES = """c0 = Conv<strides = [4, 4]>(x, patch, pb) c1 = Reshape(c0, flat) c2 = Transpose<perm = [0, 2, 1]>(c1)
    n0 = Shape<start = 0, end = 1>(x) n1 = Concat<axis = 0>(n0, one_of_each) token = Expand(class_token, n1)
    all = Concat<axis = 1>(token, c2) x0 = Add(all, places)
"""


def vit(blocks: int = 2, *, embedded: bool = False) -> ir.Model:
    """Pre-LN: 2 norms, one attention and one GELU a block, a last norm, and a Gemm on the first token.

    Embedded: behind 4x4 patches of a picture of 8x8, a class token and a table of positions.
    """
    tail = """z = LayerNormalization<axis = -1>({x}, g9, c9) first = Gather<axis = 1>(z, zero)
    y = Gemm<transB = 1>(first, wh, bh)"""
    if embedded:
        return _model(_PRE, tail, blocks, "float[N, 8] y", head=_PATCHES, inputs="float[N, 3, 8, 8] x")
    return _model(_PRE, tail, blocks, "float[N, 8] y")


def bert(blocks: int = 2) -> ir.Model:
    """Post-LN: a norm in front, then each norm's output is also a residual; the last one is read by a mean only."""
    tail = "y = ReduceMean<axes = [1], keepdims = 0>({x})"
    return _model(_POST, tail, blocks, f"float[N, {WIDTH}] y", head="x0 = LayerNormalization<axis = -1>(x, g9, c9)\n")


def llama(blocks: int = 2, *, embedded: bool = False) -> ir.Model:
    """RMSNorm in primitive operators, two query heads for each value head, SwiGLU, a head without bias.

    Embedded: behind a table of 20 tokens, which the head shares.
    """
    tail = _RMS.format(to="z", x="{x}", gain="g9") + " y = MatMul(z, wt)"
    if embedded:
        tokens = "turned = Transpose<perm = [1, 0]>(table) x0 = Gather(table, x)\n"
        tail = tail.replace("wt)", "turned)")
        return _model(_LLAMA, tail, blocks, "float[N, S, 20] y", head=tokens, inputs="int64[N, S] x")
    return _model(_LLAMA, tail, blocks, "float[N, S, 8] y")


def canonical(model: ir.Model, opset: int = 19, native: frozenset[str] = COMMON_OPS) -> ir.Model:
    """A copy as the rewrites get it."""
    return Pipeline((*normalize_passes(opset, native), *canonical_passes(opset, native))).run(model.clone())[0]


def _model(
    block: str, tail: str, blocks: int, output: str, head: str = "", inputs: str = f"float[N, S, {WIDTH}] x"
) -> ir.Model:
    text, current = head, "x0" if head else "x"
    for index in range(blocks):
        text += block.format(i=f"_{index}", x=current) + "\n"
        current = f"t_{index}"
    text += tail.format(x=current)
    made = f"m ({inputs}) => ({output}) {{ {text} }}"
    constants = _constants(blocks)
    if block is _LLAMA:  # two heads of keys and values
        halves = {name: held[:, : WIDTH // 2] for name, held in constants.items() if name[:3] in ("wk_", "wv_")}
        constants |= halves
    return build(made, 17, **constants)


def _constants(blocks: int) -> dict[str, Any]:
    random = np.random.default_rng(5)

    def array(*shape: int) -> np.ndarray[Any, Any]:
        return np.asarray(random.standard_normal(shape) / np.sqrt(shape[0]), np.float32)

    found: dict[str, Any] = {
        "heads": np.array([0, 0, HEADS, SIZE]), "groups": np.array([0, 0, 2, SIZE]), "joined": np.array([0, 0, WIDTH]),
        "place": np.array([2]), "repeat": np.array([1, 1, 2, 1, 1]), "whole": np.array([0, HEADS, -1, SIZE]),
        "root": np.float32(SIZE**-0.5), "two": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5),
        "square": np.float32(2), "epsilon": np.float32(1e-6), "zero": np.array(0),
        "g9": 1 + array(WIDTH), "c9": array(WIDTH), "wh": array(8, WIDTH), "bh": array(8), "wt": array(WIDTH, 8),
        "flat": np.array([0, WIDTH, -1]), "one_of_each": np.array([1, 1]),
    }  # fmt: skip
    shapes = {"table": (20, WIDTH), "patch": (WIDTH, 3, 4, 4), "pb": (WIDTH,), "class_token": (1, 1, WIDTH),
              "places": (1, 5, WIDTH)}  # fmt: skip
    random, others = np.random.default_rng(6), random
    found |= {name: array(*shape) for name, shape in shapes.items()}
    random = others
    for index in range(blocks):
        end = f"_{index}"
        found |= {f"{name}{end}": array(WIDTH, WIDTH) for name in ("wq", "wo")}
        found |= {f"b{name}{end}": array(WIDTH) for name in "qkvod"}
        found |= {f"{name}{end}": array(WIDTH, HIDDEN) for name in ("wu", "wg")} | {f"bu{end}": array(HIDDEN)}
        found |= {f"wd{end}": array(HIDDEN, WIDTH)} | {f"c{n}{end}": array(WIDTH) for n in "12"}
        found |= {f"g{n}{end}": 1 + array(WIDTH) for n in "12"}
        found |= {f"wk{end}": array(WIDTH, WIDTH), f"wv{end}": array(WIDTH, WIDTH)}
    return found
