"""What users get wrong: one line, the right exit status, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qcompiler import cli

USAGE, MODEL, CALIBRATION = 2, 3, 4
Change = Callable[[onnx.ModelProto], None]


def net() -> onnx.ModelProto:
    """y = relu(x @ w)."""
    weight = numpy_helper.from_array(np.linspace(-1, 1, 32, dtype=np.float32).reshape(4, 8), "w")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size]) for name, size in (("x", 4), ("y", 8))]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="fc"),
        helper.make_node("Relu", ["h"], ["y"], name="act"),
    ]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def changed(change: Change) -> bytes:
    model = net()
    change(model)
    return bytes(model.SerializeToString())


def rename_operator(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "Rleu"


def foreign_domain(model: onnx.ModelProto) -> None:
    model.graph.node[1].domain = "my.domain"
    model.opset_import.append(helper.make_opsetid("my.domain", 1))


def dangling_input(model: onnx.ModelProto) -> None:
    model.graph.node[1].input[0] = "nobody"


def double_name(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = "h"


def cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "y"


def no_outputs(model: onnx.ModelProto) -> None:
    del model.graph.output[:]


def short_weight(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]


def outside_file(model: onnx.ModelProto) -> None:
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "../../secret.bin")
    model.graph.initializer[0].ClearField("raw_data")


def missing_file(model: onnx.ModelProto) -> None:
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "weights.bin")
    model.graph.initializer[0].ClearField("raw_data")


def future_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 999


def ancient_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 5


def future_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 99


def no_opset(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


def wrong_shapes(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [8, 4]


def surplus_input(model: onnx.ModelProto) -> None:
    model.graph.node[1].input.append("x")


MODELS: dict[str, tuple[bytes, int]] = {
    "empty": (b"", MODEL),
    "text": (b"this is no model\n", MODEL),
    "zip": (b"PK\x03\x04" + bytes(40), MODEL),
    "pickle": (b"\x80\x04\x95" + bytes(40), MODEL),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(40), MODEL),
    "gzip": (b"\x1f\x8b\x08" + bytes(40), MODEL),
    "numpy": (b"\x93NUMPY" + bytes(40), MODEL),
    "engine": (b"ftrt" + bytes(40), MODEL),
    "git-lfs-pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", MODEL),
    "noise": (np.random.default_rng(0).bytes(500), MODEL),
    "truncated": (net().SerializeToString()[:-60], MODEL),
    "only-a-header": (net().SerializeToString()[:10], MODEL),
    **{
        change.__name__: (changed(change), MODEL)
        for change in (
            rename_operator, foreign_domain, dangling_input, double_name, cycle, no_outputs, short_weight, outside_file,
            missing_file, future_opset, ancient_opset, future_ir, no_opset, wrong_shapes, surplus_input,
        )
    },
}  # fmt: skip


def npz(**arrays: object) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **arrays)  # type: ignore[arg-type]


def ones(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.ones(shape, np.float32)


def _truncated(path: Path) -> None:
    np.savez(path, x=ones(64, 4))
    path.write_bytes(path.read_bytes()[:300])


def _folder_of(name: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.mkdir()
        (path / name).write_bytes(b"x")

    return write


DATA: dict[str, Callable[[Path], object]] = {
    "other-name": npz(images=ones(4, 4)),
    "nothing": npz(),
    "rank": npz(x=ones(4, 4, 1, 1)),
    "size": npz(x=ones(4, 5)),
    "no-samples": npz(x=ones(0, 4)),
    "nan": npz(x=ones(4, 4) * np.nan),
    "infinity": npz(x=ones(4, 4) * np.inf),
    "text": npz(x=np.array([["a"] * 4])),
    "objects": npz(x=np.array([None, 1], object)),
    "complex": npz(x=ones(4, 4) * 1j),
    "surplus-name": npz(x=ones(4, 4), z=ones(4)),
    "label": npz(x=ones(4, 4), label=np.zeros(4)),
    "scalar": npz(x=np.float32(1)),
    "no-zip": lambda path: path.write_bytes(b"not a zip"),
    "truncated": _truncated,
    "empty-file": lambda path: path.write_bytes(b""),
    "empty-folder": Path.mkdir,
    "folder-of-text": _folder_of("a.txt"),
    "folder-of-broken": _folder_of("a.npz"),
}

WORDS: dict[str, tuple[list[str], int]] = {
    "missing-calibration": (["--calib", "none.npz"], CALIBRATION),
    "unknown-file-type": (["--calib", "data.csv"], CALIBRATION),
    "missing-module": (["--calib", "no_such_module:factory"], CALIBRATION),
    "missing-attribute": (["--calib", "json:factory"], CALIBRATION),
    "factory-of-nothing": (["--calib", "json:dumps"], CALIBRATION),
    "preprocess-without-images": (["--calib", "good.npz", "--preprocess", "imagenet"], CALIBRATION),
    "missing-validation": (["--calib", "good.npz", "--validate", "none.npz"], CALIBRATION),
    "exclude-nothing": (["--exclude", "no_such_node"], USAGE),
    "include-nothing": (["--include", "no_such_node"], USAGE),
    "exclude-op-nothing": (["--exclude-op", "Convv"], USAGE),
    "missing-plan": (["--plan", "none.json"], USAGE),
    "plan-that-is-none": (["--plan", "data.csv"], USAGE),
    "plan-of-another-model": (["--plan", "other.json"], USAGE),
    "shape-of-no-input": (["--shape", "z:1x4"], CALIBRATION),
    "shape-that-does-not-fit": (["--shape", "x:1x5"], CALIBRATION),
    "carrier-of-no-target": (["--carrier", "fp16"], USAGE),
    "dump-after-nothing": (["--dump-after", "no-such-pass"], USAGE),
    "remove-no-pass": (["--passes", "-no-such-pass"], USAGE),
    "add-no-pass": (["--passes", "+no-such-pass"], USAGE),
    "output-under-a-file": (["-o", "data.csv/out"], USAGE),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a good model, good data and other files."""
    monkeypatch.chdir(tmp_path)
    onnx.save(net(), tmp_path / "m.onnx")
    np.savez(tmp_path / "good.npz", x=np.random.default_rng(1).standard_normal((8, 4)).astype(np.float32))
    (tmp_path / "data.csv").write_text("1,2\n")
    (tmp_path / "other.json").write_text(
        '{"schema": "qcompile-plan/1", "tensors": {}, "nodes": {"conv1": {"activations": [0]}}}'
    )
    return tmp_path


def check(capsys: pytest.CaptureFixture[str], folder: Path, words: list[str], status: int) -> None:
    before = sorted(folder.rglob("*"))
    found = cli.main(words)
    out, err = capsys.readouterr()
    assert found == status, err
    assert out == ""
    assert err.startswith("qcompile: error: ")
    assert err.count("\n") == 1
    assert len(err) < 600
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("name", MODELS)
def test_bad_models(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    content, status = MODELS[name]
    (folder / "bad.onnx").write_bytes(content)
    check(capsys, folder, ["bad.onnx"], status)


@pytest.mark.parametrize("name", DATA)
def test_bad_data(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    path = folder / ("data" if "folder" in name else "bad.npz")
    DATA[name](path)
    check(capsys, folder, ["m.onnx", "--calib", path.name], CALIBRATION)


@pytest.mark.parametrize("name", WORDS)
def test_bad_words(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    words, status = WORDS[name]
    check(capsys, folder, ["m.onnx", *words], status)


@pytest.mark.parametrize("name", ["text", "truncated", "rename_operator", "dangling_input"])
@pytest.mark.parametrize("verb", ["lint", "verify"])
def test_other_verbs_refuse_bad_models_too(
    folder: Path, capsys: pytest.CaptureFixture[str], verb: str, name: str
) -> None:
    (folder / "bad.onnx").write_bytes(MODELS[name][0])
    check(capsys, folder, [verb, "bad.onnx", *(["m.onnx"] if verb == "verify" else [])], MODEL)


def test_models_that_do_not_pair(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = net()
    other.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    other.graph.input[0].name = "ids"
    other.graph.node.insert(0, helper.make_node("Cast", ["ids"], ["x"], to=TensorProto.FLOAT))
    onnx.save(other, folder / "other.onnx")
    check(capsys, folder, ["verify", "m.onnx", "other.onnx"], USAGE)


def test_model_without_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = net()
    model.graph.initializer.append(numpy_helper.from_array(np.ones((2, 4), np.float32), "x"))
    del model.graph.input[:]
    onnx.save(model, tmp_path / "m.onnx")
    assert cli.main([str(tmp_path / "m.onnx"), "-o", str(tmp_path / "out")]) == MODEL
    assert "the model has no inputs" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
