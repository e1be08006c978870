"""Engines are built once for each graph, version and GPU. TensorRT and CUDA are stand-ins: neither runs here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from qcompiler import runtime
from qcompiler.errors import ModelError, UsageError
from qcompiler.runtime import tensorrt_engine
from tests.runtime import fake_tensorrt

ONES = {"x": np.ones((2, 4), np.float32)}


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("QCOMPILE_ENGINES", str(tmp_path / "engines"))
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt)
    monkeypatch.setattr(tensorrt_engine, "unavailable", lambda: "")
    monkeypatch.setattr(tensorrt_engine, "Cuda", fake_tensorrt.Cuda)
    monkeypatch.setattr(fake_tensorrt.Cuda, "memory", {})
    monkeypatch.setattr(fake_tensorrt, "BUILT", [])


def test_builds_once_and_keeps_the_engine(orin_bundle: Path, tmp_path: Path) -> None:
    cache = tmp_path / "engines"
    first = runtime.load(orin_bundle, cache=cache)
    assert first.runtime == "tensorrt"
    (plan,) = cache.iterdir()
    assert plan.name.endswith("-trt10.3.0-sm87.plan")
    second = runtime.load(orin_bundle, cache=cache)
    assert len(fake_tensorrt.BUILT) == 1
    host = runtime.load(orin_bundle, runtime="onnxruntime")
    for rows in (1, 3, 2, 8):  # buffers grow and are used again
        feeds = {"x": np.random.default_rng(rows).standard_normal((rows, 4)).astype(np.float32)}
        wanted = host.run(feeds)
        for model in (first, second):
            got = model.run(feeds)
            assert got.keys() == wanted.keys()
            assert got["k"].dtype == np.int64
            assert all(np.array_equal(got[name], array) for name, array in wanted.items())


@pytest.mark.parametrize("what", ["version", "capability", "model", "profile"])
def test_whatever_an_engine_depends_on_builds_a_new_one(
    what: str, orin_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "engines"
    runtime.load(orin_bundle, cache=cache)
    manifest = orin_bundle / "manifest.json"
    if what == "version":
        monkeypatch.setattr(fake_tensorrt, "__version__", "10.16.1")
    elif what == "capability":
        monkeypatch.setattr(fake_tensorrt.Cuda, "sm", "86")
    elif what == "model":
        text = manifest.read_text()
        manifest.write_text(text.replace(json.loads(text)["files"]["model.onnx"]["sha256"], "0" * 64))
    else:
        manifest.write_text(manifest.read_text().replace("[8,4]", "[9,4]"))
    fake_tensorrt.BUILT.clear()
    runtime.load(orin_bundle, cache=cache, verify=False)
    assert len(fake_tensorrt.BUILT) == 1
    assert len(list(cache.iterdir())) == 2


def test_a_damaged_engine_is_built_again(orin_bundle: Path, tmp_path: Path) -> None:
    runtime.load(orin_bundle, cache=tmp_path / "engines")
    (plan,) = (tmp_path / "engines").iterdir()
    plan.write_bytes(b"broken")
    runtime.load(orin_bundle, cache=tmp_path / "engines").run(ONES)
    assert len(fake_tensorrt.BUILT) == 2


def test_the_scripts_engine_is_taken_while_it_is_newer_than_the_model(orin_bundle: Path, tmp_path: Path) -> None:
    plan = orin_bundle / "model.plan"
    plan.write_bytes(f"plan 10.3.0 8 {orin_bundle / 'host.onnx'}".encode())
    runtime.load(orin_bundle, cache=tmp_path / "engines").run(ONES)
    assert fake_tensorrt.BUILT == []
    os.utime(plan, (0, 0))
    runtime.load(orin_bundle, cache=tmp_path / "engines").run(ONES)
    assert len(fake_tensorrt.BUILT) == 1


def test_what_goes_wrong_is_one_line(orin_bundle: Path, stream_bundle: Path, tmp_path: Path) -> None:
    cache = tmp_path / "engines"
    with pytest.raises(UsageError, match=r"input 'x': shape \[9, 4\] is outside the engine's profile"):
        runtime.load(orin_bundle, cache=cache).run({"x": np.ones((9, 4), np.float32)})
    with pytest.raises(UsageError, match=r"float64, the model takes float32"):
        runtime.load(orin_bundle, cache=cache).run({"x": np.ones((2, 4))})
    (orin_bundle / "model.plan").write_bytes(f"plan 10.3.0 8 {stream_bundle / 'model.onnx'}".encode())
    with pytest.raises(ModelError, match=r"the engine has the tensors .*; manifest\.json says"):
        runtime.load(orin_bundle, cache=cache)
    refused = orin_bundle.rename(tmp_path / "refused.orin")
    (refused / "model.plan").unlink()
    with pytest.raises(ModelError, match=r"TensorRT 10\.3\.0 refuses it: no such operator"):
        runtime.load(refused, cache=tmp_path / "other")


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed (extra 'tensorrt')")
def test_nvidias_own_builder_takes_the_calls(orin_bundle: Path) -> None:
    """TensorRT-RTX has the same Python classes and builds without a GPU; in a process of its own, it may crash."""
    code = (
        "import sys; from pathlib import Path; import tensorrt_rtx as trt\n"
        "from qcompiler.runtime.bundle_folder import read_bundle; from qcompiler.runtime import tensorrt_plan\n"
        "print(len(tensorrt_plan._build(trt, trt.Logger(trt.Logger.ERROR), read_bundle(Path(sys.argv[1])))))\n"
        "calls = {trt.IExecutionContext: ('set_input_shape', 'set_tensor_address', 'get_tensor_shape',\n"
        "                                 'execute_async_v3'),\n"
        "         trt.ICudaEngine: ('get_tensor_name', 'num_io_tensors', 'get_tensor_dtype',\n"
        "                           'create_execution_context'),\n"
        "         trt.Runtime: ('deserialize_cuda_engine',), trt: ('nptype', '__version__')}\n"
        "assert all(hasattr(owner, name) for owner, names in calls.items() for name in names)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(orin_bundle)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 1000
