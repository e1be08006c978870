"""Reading refuses what is not a sound model in one line, reads weights lazily, and writes the same bytes twice."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from qcompiler.errors import ExitCode, ModelError, QcompileError, UnsupportedError, UsageError
from qcompiler.reading import as_model, load_model, model_fingerprint
from qcompiler.saving import save_model


def make_proto(size: int = 4) -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.arange(size * size, dtype=np.float32).reshape(size, size), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"], name="mm"), helper.make_node("Relu", ["h"], ["y"], name="relu")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", size])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write(proto: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def external(folder: Path, *, location: str = "m.data", length: int = 64, offset: int = 0) -> Path:
    proto = make_proto()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    return write(proto, folder)


def test_sound_model_is_read(tmp_path: Path) -> None:
    model = load_model(write(make_proto(), tmp_path))
    assert [node.name for node in model.graph] == ["mm", "relu"]


def pickled() -> bytes:
    return pickle.dumps({"weight": [1.0]}, protocol=2)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", "x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n", "git-LFS"),
        (b"hello, this is a readme\n", "text file"),
        (pickled(), "pickle"),
        (zipped(), "zip archive"),
        (b"\x00" * 64, "ONNX"),
        (bytes(range(128, 256)) * 4, "ONNX"),
        (make_proto(16).SerializeToString()[:-300], "cut short"),
        (make_proto().SerializeToString()[:10], "cut short"),
        ((40).to_bytes(8, "little") + b'{"w":{"dtype":"F32"}}' + b" " * 40, "safetensors"),
        (b"\x1c\x00\x00\x00TFL3" + b"\x00" * 32, "TensorFlow Lite"),
        (b"\x89HDF\r\n\x1a\n" + b"\x00" * 32, "HDF5"),
        (b"\x1f\x8b\x08\x00" + b"\x00" * 32, "gzip"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=words) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == ExitCode.MODEL


def test_missing_file_and_folder_are_usage_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(UsageError):
            load_model(path)


Damage = Callable[[onnx.ModelProto], None]


def _rename_output(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].name = "nowhere"


def _duplicate(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].output[0] = "h"


def _undefined(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].input[0] = "ghost"


def _cycle(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].input[0] = "y"


def _no_outputs(proto: onnx.ModelProto) -> None:
    del proto.graph.output[:]


def _short_tensor(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].raw_data = b"\x00" * 8


def _bad_type(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].data_type = 99


def _unknown_operator(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].op_type = "Frobnicate"


def _too_many_inputs(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].input.extend(["x", "x"])


def _no_opset(proto: onnx.ModelProto) -> None:
    del proto.opset_import[:]


def _missing_attribute(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].op_type = "Cast"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_rename_output, "'nowhere', which nothing produces"),
        (_duplicate, "'h' is defined twice"),
        (_undefined, "node 'mm' reads 'ghost'"),
        (_cycle, "cycle"),
        (_no_outputs, "no outputs"),
        (_short_tensor, "tensor 'w' holds 8 bytes"),
        (_bad_type, "unknown type 99"),
        (_unknown_operator, "Frobnicate node 'relu' does not exist"),
        (_too_many_inputs, "has 3 inputs"),
        (_no_opset, "no ai.onnx opset"),
        (_missing_attribute, "lacks the attribute 'to'"),
    ],
)
def test_unsound_graphs_are_refused(tmp_path: Path, damage: Damage, words: str) -> None:
    proto = make_proto()
    damage(proto)
    with pytest.raises(ModelError, match=words):
        load_model(write(proto, tmp_path))


def test_versions_and_domains_out_of_range_are_unsupported(tmp_path: Path) -> None:
    old, new, newer_ir, foreign = make_proto(), make_proto(), make_proto(), make_proto()
    old.opset_import[0].version = 6
    new.opset_import[0].version = onnx.defs.onnx_opset_version() + 1
    newer_ir.ir_version = onnx.IR_VERSION + 1
    foreign.graph.node[1].domain = "com.example"
    foreign.opset_import.add(domain="com.example", version=1)
    for proto, words in ((old, "opset 6"), (new, "newer"), (newer_ir, "IR version"), (foreign, "com.example")):
        with pytest.raises(UnsupportedError, match=words):
            load_model(write(proto, tmp_path))


def test_unsorted_graph_is_read(tmp_path: Path) -> None:
    proto = make_proto()
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    assert len(load_model(write(proto, tmp_path)).graph) == 2


def test_external_weights_are_not_read_until_needed(tmp_path: Path) -> None:
    save_model(load_model(write(make_proto(64), tmp_path)), tmp_path / "big.onnx", external_above=8)
    path, data = tmp_path / "big.onnx", np.arange(64 * 64, dtype=np.float32)
    tensor = load_model(path).graph.initializers["w"].const_value
    assert isinstance(tensor, ir.ExternalTensor)
    assert np.array_equal(tensor.numpy().reshape(-1), data)


def test_small_external_operands_are_read_at_once(tmp_path: Path) -> None:
    (tmp_path / "m.data").write_bytes(np.arange(16, dtype=np.float32).tobytes())
    tensor = load_model(external(tmp_path)).graph.initializers["w"].const_value
    assert isinstance(tensor, ir.Tensor)
    assert np.array_equal(tensor.numpy().reshape(-1), np.arange(16))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"location": "../m.data"}, "outside the model's folder"),
        ({"location": "/etc/passwd"}, "outside the model's folder"),
        ({"location": "C:\\m.data"}, "outside the model's folder"),
        ({"location": ""}, "names no file"),
        ({"location": "other.data"}, "'other.data' is missing"),
        ({"offset": 8}, "has 64"),
        ({"length": 32}, "do not fit its shape"),
        ({"offset": -64}, "do not fit its shape"),
    ],
)
def test_unsafe_or_short_external_data_is_refused(tmp_path: Path, options: dict[str, object], words: str) -> None:
    (tmp_path / "m.data").write_bytes(b"\x00" * 64)
    path = external(tmp_path, **options)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=words) as caught:
        load_model(path)
    assert "'w'" in str(caught.value)


def test_link_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\x00" * 64)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "m.data").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="leaves the model's folder"):
        load_model(external(folder))


def test_saving_switches_to_external_data_and_gives_the_same_bytes(tmp_path: Path) -> None:
    model = load_model(write(make_proto(), tmp_path))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_model(model, tmp_path / name / "out.onnx", external_above=8)
    first, second = (sorted((tmp_path / name).iterdir()) for name in ("a", "b"))
    assert [path.name for path in first] == ["out.onnx", "out.onnx.data"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert model_fingerprint(load_model(first[0])) == model_fingerprint(model)
    (tmp_path / "c").mkdir()
    save_model(load_model(first[0]), tmp_path / "c" / "out.onnx")  # back into one file
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["out.onnx"]
    assert model_fingerprint(load_model(tmp_path / "c" / "out.onnx")) == model_fingerprint(model)


def test_fingerprint_follows_content_only(tmp_path: Path) -> None:
    proto = make_proto()
    base = model_fingerprint(load_model(write(proto, tmp_path)))
    proto.producer_name = "somebody"
    assert model_fingerprint(load_model(write(proto, tmp_path))) == base
    changed = bytearray(proto.graph.initializer[0].raw_data)
    changed[0] ^= 1
    proto.graph.initializer[0].raw_data = bytes(changed)
    assert model_fingerprint(load_model(write(proto, tmp_path))) != base


def test_every_error_is_of_the_family(tmp_path: Path) -> None:
    """Cut at every 7th byte: never anything but a clean error or a model."""
    data = make_proto().SerializeToString()
    path = tmp_path / "m.onnx"
    for size in range(0, len(data), 7):
        path.write_bytes(data[:size])
        try:
            load_model(path)
        except QcompileError as error:
            assert "\n" not in str(error)


def test_a_model_in_memory_is_checked_like_a_file(tmp_path: Path) -> None:
    proto = make_proto()
    held = as_model(proto)
    assert model_fingerprint(held) == model_fingerprint(as_model(write(proto, tmp_path)))
    assert as_model(held) is held
    _no_outputs(proto)
    with pytest.raises(ModelError, match="no outputs"):
        as_model(proto)
    with pytest.raises(UsageError, match="of type bytes"):
        as_model(b"model")  # type: ignore[arg-type]


def test_size_of_minus_one_is_a_size_that_varies(tmp_path: Path) -> None:
    proto = make_proto()
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    model = load_model(write(proto, tmp_path))
    for held in (*model.graph.inputs, *model.graph.outputs):
        assert held.shape is not None
        assert held.shape[0] == ir.SymbolicDim(None)


@pytest.mark.skipif(os.name != "posix", reason="hard links of POSIX")
def test_a_weight_file_with_two_names_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "m.data").write_bytes(np.zeros(16, np.float32).tobytes())
    path = external(tmp_path)
    load_model(path)
    os.link(tmp_path / "m.data", tmp_path / "other.data")
    with pytest.raises(ModelError, match=r"'w': its weight file 'm.data' has several hard links.*copy it"):
        load_model(path)
