"""The real command in a process of its own: bundles that run, the same bytes, nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import qcompiler
from qcompiler.errors import ExitCode


def small_net() -> onnx.ModelProto:
    """Conv, Relu, mean over space, two products."""
    random = np.random.default_rng(7)
    shapes = {"w0": (16, 3, 3, 3), "b0": (16,), "w1": (16, 32), "w2": (32, 10)}
    weights = [
        numpy_helper.from_array((random.standard_normal(shape) * 0.3).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("ReduceMean", ["r"], ["p"], name="pool", axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["p", "w1"], ["h"], name="fc1"),
        helper.make_node("Relu", ["h"], ["a"], name="act"),
        helper.make_node("MatMul", ["a", "w2"], ["y"], name="fc2"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with net.onnx, calib.npz and their bundle net.ort-cpu."""
    folder = tmp_path_factory.mktemp("work")
    onnx.save(small_net(), folder / "net.onnx")
    samples = np.random.default_rng(8).standard_normal((24, 3, 8, 8)).astype(np.float32)
    np.savez(folder / "calib.npz", x=samples)
    done = command(folder, "net.onnx", "--target", "ort-cpu", "--calib", "calib.npz")
    assert done.returncode == 0, done.stderr
    return folder


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(qcompiler.__file__).parent.parent)}
    return subprocess.run(
        [sys.executable, "-m", "qcompiler", *words],
        capture_output=True, text=True, check=False, cwd=folder, env=environment,
    )  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found.pop("timings.json")
    return found


def run_ort(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(folder / "run_ort.py"), "--check"], capture_output=True, text=True, check=False
    )


def test_bundle_for_onnxruntime_runs_and_its_report_is_right(work: Path) -> None:
    folder = work / "net.ort-cpu"
    assert run_ort(folder).returncode == 0
    report = json.loads((folder / "report.json").read_text())
    assert report["quantized"]["MatMul"] == {"quantized": 2, "total": 2}
    assert report["quantized"]["Conv"] == {"quantized": 1, "total": 1}
    assert report["facts"]["model"]["leftovers"] == []
    assert report["calibration"]["source"] == "npz"
    output = report["verification"]["model"]["outputs"][0]
    assert output["name"] == "y"
    assert output["sqnr"] > 25
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["source"]["file"] == "net.onnx"
    assert manifest["options"]["calib"] == "calib.npz"


def test_bundle_for_orin_lints_clean_and_agrees_with_its_host(work: Path) -> None:
    done = command(work, "net.onnx", "--target", "orin", "--calib", "calib.npz", "--build-check", "off")
    assert done.returncode == 0, done.stderr
    folder = work / "net.orin-jp6"
    assert run_ort(folder).returncode == 0
    assert os.access(folder / "build_engine.sh", os.X_OK)
    assert command(work, "lint", "net.orin-jp6/model.onnx", "--target", "orin").returncode == 0
    words = [
        "verify",
        "net.orin-jp6/host.onnx",
        "net.orin-jp6/model.onnx",
        "--calib",
        "calib.npz",
        "--min-cosine",
        ".999",
    ]
    assert command(work, *words).returncode == 0


def test_same_inputs_give_the_same_bytes_wherever_they_lie(work: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "another folder" / "deep"
    elsewhere.mkdir(parents=True)
    for name in ("net.onnx", "calib.npz"):
        shutil.copy(work / name, elsewhere / name)
    words = [str(elsewhere / "net.onnx"), "--calib", str(elsewhere / "calib.npz"), "-o", "made"]
    assert command(tmp_path, *words).returncode == 0
    assert contents(tmp_path / "made") == contents(work / "net.ort-cpu")


def test_python_writes_what_the_command_writes(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)
    result = qcompiler.compile("net.onnx", target="ort-cpu", calibration="calib.npz")
    assert contents(result.save(tmp_path / "made")) == contents(work / "net.ort-cpu")


def test_an_edited_plan_is_carried_out(work: Path, tmp_path: Path) -> None:
    plan = json.loads((work / "net.ort-cpu" / "plan.json").read_text())
    del plan["nodes"]["fc2"]
    plan["float"]["fc2"] = "by hand"
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    words = [str(work / "net.onnx"), "--calib", str(work / "calib.npz"), "--plan", "plan.json", "--json"]
    done = command(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["quantized"]["MatMul"] == {"quantized": 1, "total": 2}
    assert {"name": "fc2", "op": "MatMul", "reason": "by hand"} in report["float"]


def test_a_missed_gate_leaves_nothing(work: Path, tmp_path: Path) -> None:
    words = [str(work / "net.onnx"), "--calib", str(work / "calib.npz"), "--min-sqnr", "200"]
    done = command(tmp_path, *words)
    assert done.returncode == ExitCode.GATE
    assert "below 200" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_existing_output_needs_force(work: Path, tmp_path: Path) -> None:
    shutil.copytree(work / "net.ort-cpu", tmp_path / "out")
    words = [str(work / "net.onnx"), "--calib", str(work / "calib.npz"), "-o", str(tmp_path / "out")]
    done = command(work, *words)
    assert (done.returncode, done.stderr.count("\n")) == (ExitCode.USAGE, 1)
    assert command(work, *words, "--force").returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_is_exit_130_and_leaves_nothing(work: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "data.py").write_text(
        "import os, signal, numpy as np\n"
        "def samples():\n"
        "    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell's background jobs are started\n"
        "        signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    yield {'x': np.zeros((1, 3, 8, 8), np.float32)}\n"
        f"    os.kill(os.getpid(), signal.{name})\n"
        "    yield {'x': np.zeros((1, 3, 8, 8), np.float32)}\n"
    )
    done = command(tmp_path, str(work / "net.onnx"), "--calib", "data:samples", "-o", "out")
    assert (done.returncode, done.stderr) == (ExitCode.INTERRUPTED, "qcompile: interrupted\n")
    assert {path.name for path in tmp_path.iterdir()} <= {"data.py", "__pycache__"}


def test_dumps_lie_beside_the_output(work: Path, tmp_path: Path) -> None:
    words = [str(work / "net.onnx"), "--calib", str(work / "calib.npz"), "-o", "out", "--dump-after", "insert-qdq"]
    done = command(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.dumps" / "insert-qdq.onnx").is_file()


def test_module_and_script_are_the_same_command() -> None:
    script = shutil.which("qcompile", path=str(Path(sys.executable).parent))
    if script is None:
        pytest.skip("not installed: a bare checkout has no script")
    assert subprocess.run([script, "--version"], capture_output=True, check=True).stdout.startswith(b"qcompile ")
