"""Weights cut out of a serialized model and written into one, against protobuf's own reading."""

from __future__ import annotations

import io
from functools import partial
from typing import IO

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from qcompiler.wire import cut_weights, write_model


def model(sizes: list[int], nodes: int = 3) -> onnx.ModelProto:
    rng = np.random.default_rng(len(sizes))
    weights = [
        numpy_helper.from_array(rng.standard_normal(size).astype(np.float32), f"w{i}") for i, size in enumerate(sizes)
    ]
    chain = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"], name=f"n{i}", doc_string="é" * i) for i in range(nodes)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in ("v0", f"v{nodes}")]
    graph = helper.make_graph(chain, "g", ends[:1], ends[1:], weights, doc_string="graph")
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="p")
    helper.set_model_props(proto, {"key": "value"})
    return proto


def _append(data: bytes, file: IO[bytes]) -> None:
    file.write(data)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=6), st.integers(0, 900))
def test_cut_out_and_written_back_the_model_is_the_same(sizes: list[int], smallest: int) -> None:
    proto = model(sizes)
    data = memoryview(proto.SerializeToString())
    rest_bytes, spans = cut_weights(data, smallest)
    rest = onnx.ModelProto.FromString(rest_bytes)
    large = {name: bytes(data[begin:end]) for name, (begin, end) in spans.items()}
    assert set(large) == {t.name for t in proto.graph.initializer if len(t.raw_data) >= max(smallest, 0)}
    for tensor in proto.graph.initializer:
        if tensor.name in large:
            assert large[tensor.name] == tensor.raw_data
    for tensor in rest.graph.initializer:
        assert tensor.HasField("raw_data") != (tensor.name in large)

    heads = [tensor for tensor in rest.graph.initializer if tensor.name in large]
    kept = [tensor for tensor in rest.graph.initializer if tensor.name not in large]
    del rest.graph.initializer[:]
    rest.graph.initializer.extend(kept)
    file = io.BytesIO()
    weights = [(head, len(large[head.name]), partial(_append, large[head.name])) for head in heads]
    write_model(rest, weights, file)
    again = onnx.ModelProto.FromString(file.getvalue())
    assert {t.name: t for t in again.graph.initializer} == {t.name: t for t in proto.graph.initializer}
    for one in (again, proto):
        del one.graph.initializer[:]
    assert again == proto


@pytest.mark.parametrize("data", [b"\xff" * 30, b"\x3a\xff\x01abc", b"\x0b\x01", b"\x3a\x05\x2a\x09abc"])
def test_what_is_not_a_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"wire type|beyond|no end"):
        cut_weights(memoryview(data), 1)


def test_two_weights_of_one_name_stay_for_the_checks_to_find() -> None:
    proto = model([100, 100])
    proto.graph.initializer[1].name = "w0"
    rest, spans = cut_weights(memoryview(proto.SerializeToString()), 10)
    assert len(spans) == 1
    assert len(onnx.ModelProto.FromString(rest).graph.initializer) == 2
