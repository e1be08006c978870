"""Where the readers of a norm come together, and where they do not."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from qcompiler.passes.equalize.joint_end import MOST_NODES, JointEnd, graph_places, joint_end
from qcompiler.passes.sites.find import find_sites
from qcompiler.passes.sites.records import Kind
from tests.architectures import bert, canonical, llama, vit
from tests.joint_models import JOINT, NORM, SINGLE, joint_model


def ends(model: ir.Model, kind: Kind = Kind.NORM) -> list[JointEnd | None]:
    places = graph_places(model)
    return [joint_end(site, places) for site in find_sites(model).sites if site.kind is kind]


@pytest.mark.parametrize("text", JOINT.values(), ids=JOINT)
def test_readers_come_together_in_what_the_next_layer_reads(text: str) -> None:
    model = joint_model(text)
    (end,) = ends(model)
    assert end is not None and end.value.name == "end"
    assert [use.node.outputs[0].name for use in end.value.uses()] == ["y"]
    (site,) = (site for site in find_sites(model).sites if site.kind is Kind.NORM)
    assert not {reader.node for reader in site.readers} & set(end.nodes)


@pytest.mark.parametrize("text", SINGLE.values(), ids=SINGLE)
def test_readers_that_are_read_for_themselves_have_none(text: str) -> None:
    assert ends(joint_model(text)) == [None]


def test_what_stands_beside_is_named() -> None:
    (end,) = ends(joint_model(JOINT["rotary and a cache"]))
    assert end is not None and [value.name for value in end.beside] == ["cos", "past_k", "past_v", "sin"]
    (end,) = ends(joint_model(JOINT["masked"]))
    assert end is not None and [value.name for value in end.beside] == ["f3"]


def test_sizes_do_not_depend_on_the_readers() -> None:
    """The sizes of a reader's output, which are also read behind the next layer."""
    text = NORM + """g0 = MatMul(n, w_q) u0 = MatMul(n, w_k) d = Shape(g0) filled = ConstantOfShape(d)
    g1 = Sigmoid(g0) g2 = Add(g1, filled) r = Mul(g2, u0) y1 = MatMul(r, w_out) y = Add(y1, filled)"""
    (end,) = ends(joint_model(text))
    assert end is not None and end.value.name == "r" and [value.name for value in end.beside] == ["filled"]


def test_a_node_with_a_body_on_the_way_is_a_refusal() -> None:
    text = NORM + """g0 = MatMul(n, w_q) u0 = MatMul(n, w_k) c = ReduceMax<keepdims = 0>(READ) choice = Cast<to = 9>(c)
    g1 = Sigmoid(g0)
    b = If<then_branch = yes () => (float[N, S, 16] t) { t = Neg(x) },
           else_branch = no () => (float[N, S, 16] e) { e = Abs(x) }>(choice)
    r0 = Add(u0, b) r = Mul(g1, r0) y = MatMul(r, w_out)"""
    assert ends(joint_model(text.replace("READ", "u0"))) == [None]
    (end,) = ends(joint_model(text.replace("READ", "x")))
    assert end is not None and [value.name for value in end.beside] == ["b"]


def test_blocks_of_transformers() -> None:
    for build, expected in ((vit, ["m2_0", None, None]), (bert, ["m2_0", None]), (llama, ["m2_0", "h3_0", None])):
        model = canonical(build(1))
        assert [end and end.value.name for end in ends(model)] == expected
        for kind in (Kind.VALUE, Kind.ACTIVATION, Kind.GATED):
            assert not any(ends(model, kind))


def test_the_walk_is_bounded() -> None:
    chain = "".join(f"a{i + 1} = Abs(a{i})\n" for i in range(MOST_NODES))
    far = NORM + "a0 = MatMul(n, w_q) u = MatMul(n, w_k)\n" + chain + f"r = Mul(a{MOST_NODES}, u) y = MatMul(r, w_out)"
    near = far.replace(f"Mul(a{MOST_NODES}, u)", "Mul(a20, u)")
    assert ends(joint_model(far)) == [None]
    (end,) = ends(joint_model(near))
    assert end is not None and end.value.name == "r" and len(end.nodes) == 21


def test_a_reader_that_a_body_reads_has_none() -> None:
    text = NORM + """c = ReduceMax<keepdims = 0>(x) choice = Cast<to = 9>(c)
    g0 = MatMul(n, w_q) u0 = MatMul(n, w_k) g1 = Sigmoid(g0) r = Mul(g1, u0) d = MatMul(r, w_out)
    b = If<then_branch = yes () => (float[N, S, 16] t) { t = Neg(READ) },
           else_branch = no () => (float[N, S, 16] e) { e = Abs(d) }>(choice)
    y = Add(b, d)"""  # fmt: skip
    assert ends(joint_model(text.replace("READ", "u0"))) == [None]
    assert ends(joint_model(text.replace("READ", "d"))) != [None]
