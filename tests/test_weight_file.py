"""Large weights lie in a temporary file while anything needs them, and are never read without need."""

from __future__ import annotations

import errno
import gc
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from qcompiler.errors import ModelError, OutputError
from qcompiler.reading import load_model, model_fingerprint
from qcompiler.saving import save_model
from qcompiler.session import Session
from qcompiler.weight_file import WeightFile, forget_pages

SIZE = 192  # 147 kB as float32, above what stays in the graph
X = np.random.default_rng(0).standard_normal((2, SIZE)).astype(np.float32)
W = np.random.default_rng(1).standard_normal((SIZE, SIZE)).astype(np.float32)


def written(folder: Path, weight: onnx.TensorProto | None = None) -> Path:
    product = helper.make_node("MatMul", ["x", "w"], ["h"], name="mm")
    graph = helper.make_graph(
        [product, helper.make_node("Add", ["h", "b"], ["y"], name="add")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", SIZE])],
        [weight or numpy_helper.from_array(W, "w"), numpy_helper.from_array(W[0], "b")],
    )
    path = folder / "m.onnx"
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(proto.SerializeToString())
    return path


def weight_of(model: ir.Model) -> ir.ExternalTensor:
    tensor = model.graph.initializers["w"].const_value
    assert isinstance(tensor, ir.ExternalTensor)
    return tensor


def test_large_weights_are_mapped_and_small_ones_are_not(tmp_path: Path) -> None:
    model = load_model(written(tmp_path))
    assert weight_of(model).raw is None, "reading the model reads no weight"
    assert not isinstance(model.graph.initializers["b"].const_value, ir.ExternalTensor)
    np.testing.assert_array_equal(weight_of(model).numpy(), W)
    forget_pages(weight_of(model))
    np.testing.assert_array_equal(weight_of(model).numpy(), W)


def test_the_file_lives_as_long_as_a_tensor_in_it(tmp_path: Path) -> None:
    model = load_model(written(tmp_path))
    file = Path(weight_of(model).path)
    clone = model.clone()
    del model
    gc.collect()
    np.testing.assert_array_equal(weight_of(clone).numpy(), W)
    del clone
    gc.collect()
    assert not file.parent.exists()


def test_the_source_may_change_afterwards(tmp_path: Path) -> None:
    path = written(tmp_path)
    model = load_model(path)
    path.write_bytes(b"something else")
    np.testing.assert_allclose(Session(model).run({"x": X})["y"], X @ W + W[0], atol=1e-3)


def test_a_session_outlives_its_model(tmp_path: Path) -> None:
    session = Session(load_model(written(tmp_path)))
    gc.collect()
    np.testing.assert_allclose(session.run({"x": X})["y"], X @ W + W[0], atol=1e-3)


def test_saved_again_the_model_is_whole(tmp_path: Path) -> None:
    source = written(tmp_path)
    model = load_model(source)
    save_model(model, tmp_path / "again.onnx")
    save_model(model, tmp_path / "twice.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "twice.onnx").read_bytes()
    onnx.checker.check_model(str(tmp_path / "again.onnx"), full_check=True)
    assert model_fingerprint(load_model(tmp_path / "again.onnx")) == model_fingerprint(load_model(source))
    assert model_fingerprint(ir.load(source)) == model_fingerprint(model), "wherever the weights lie"


def test_a_weight_of_the_wrong_size_is_named(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(W, "w")
    tensor.raw_data = tensor.raw_data[:-4]
    with pytest.raises(ModelError, match="'w' holds 147452 bytes"):
        load_model(written(tmp_path, tensor))


def test_no_room_for_weights_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(WeightFile, "add", full)
    with pytest.raises(OutputError, match=r"temporary folder: weights of 0 MiB .*No space left.*TMPDIR"):
        load_model(path)
