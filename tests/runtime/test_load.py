"""Loading a bundle without the compiler, and one line for every wrong file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qcompiler import runtime
from qcompiler.errors import ModelError, QcompileError, UsageError
from qcompiler.result import CompileResult

ROOT = Path(__file__).resolve().parents[2]
BLOCKED = ("onnx", "onnx_ir", "onnxscript", "msgspec", "networkx", "rich", "torch", "ml_dtypes", "google", "tomli")


def golden(folder: Path, number: int = 0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    place = folder / "golden"
    with np.load(place / f"{number}.inputs.npz") as one, np.load(place / f"{number}.outputs.npz") as two:
        return dict(one), dict(two)


def test_needs_nothing_of_the_compilers_dependencies(bundle: Path) -> None:
    code = (
        f"import sys\nfor name in {BLOCKED!r}: sys.modules[name] = None\n"
        "import numpy as np\nfrom qcompiler import runtime\n"
        f"model = runtime.load({str(bundle)!r})\n"
        "outputs = model.run({'x': np.ones((2, 4), np.float32)})\n"
        "print(model.runtime, outputs['y'].shape)\n"
        "own = [name for name in sys.modules if name.startswith('qcompiler.')]\n"
        "assert not any(part in name for name in own for part in ('passes', 'backends', 'driver')), own"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "onnxruntime (2, 3)"


def test_runs_and_gives_the_golden_outputs(bundle: Path) -> None:
    model = runtime.load(bundle, threads=1)
    assert (model.target, model.runtime, model.states) == ("ort-cpu", "onnxruntime", {})
    feeds, wanted = golden(bundle)
    outputs = model.run(feeds)
    assert outputs.keys() == wanted.keys()
    np.testing.assert_allclose(outputs["y"], wanted["y"], rtol=1e-6)


def test_a_bundle_for_tensorrt_runs_its_host_graph_without_it(orin_bundle: Path) -> None:
    shutil.copy(orin_bundle / "host.onnx", orin_bundle / "kept")
    model = runtime.load(orin_bundle)
    assert model.runtime == "onnxruntime"
    (orin_bundle / "host.onnx").unlink()
    with pytest.raises(ModelError, match=r"host\.onnx: the file is missing"):
        runtime.load(orin_bundle)


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({}, "the input 'x' is missing (the inputs are x)"),
        ({"x": np.zeros((2, 4), np.float32), "z": np.zeros(1)}, "the model has no input 'z'"),
        ({"x": np.zeros((2, 4))}, "input 'x': float64, the model takes float32 (array.astype('float32'))"),
        ({"x": np.zeros((2, 5), np.float32)}, "input 'x': shape [2, 5], the model takes [N, 4]"),
        ({"x": np.zeros(4, np.float32)}, "input 'x': shape [4], the model takes [N, 4]"),
        ({"x": [[1.0, 2.0, 3.0, 4.0]]}, "input 'x': list, the model takes arrays"),
    ],
)
def test_wrong_feeds_are_one_line(bundle: Path, feeds: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        runtime.load(bundle).run(feeds)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def damage(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[-3] ^= 1
    (folder / "model.onnx").write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (damage, "model.onnx: differs from manifest.json (sha256)"),
        (lambda folder: (folder / "model.onnx").unlink(), "model.onnx: the file is missing"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json: the manifest is damaged"),
        (lambda folder: (folder / "manifest.json").write_text('{"schema": "x/9"}'), "has the schema 'x/9'"),
        (lambda folder: (folder / "manifest.json").unlink(), "is not a bundle"),
        (shutil.rmtree, "no such folder"),
    ],
)
def test_a_wrong_bundle_is_one_line(bundle: Path, change: Callable[[Path], None], words: str) -> None:
    change(bundle)
    with pytest.raises(QcompileError) as caught:
        runtime.load(bundle)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("key", "value"), [("name", "other"), ("dtype", "float16")])
def test_another_models_file_is_refused_without_hashes_too(bundle: Path, key: str, value: str) -> None:
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    manifest["outputs"][0][key] = value
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=r"manifest\.json says"):
        runtime.load(bundle, verify=False)


def test_a_file_that_is_no_graph_is_one_line(bundle: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"model\.onnx: onnxruntime [0-9.]+ refuses it: .*") as caught:
        runtime.load(bundle, verify=False)
    assert "\n" not in str(caught.value)


def test_tensorrt_that_is_not_there_is_said(bundle: Path, orin_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(UsageError, match="the bundle is for ort-cpu"):
        runtime.load(bundle, runtime="tensorrt")
    with pytest.raises(UsageError, match="TensorRT can't be used: the package tensorrt is not installed"):
        runtime.load(orin_bundle, runtime="tensorrt")


def test_latency_tells_the_first_run_apart(bundle: Path) -> None:
    model = runtime.load(bundle)
    assert model.latency.report()["runs"] == 0
    assert model.latency.report()["median_ms"] is None
    for _ in range(5):
        model.run({"x": np.ones((2, 4), np.float32)})
    report = model.latency.report()
    assert report["runs"] == 5
    assert report["median_ms"] <= report["p90_ms"] <= report["p99_ms"] <= report["max_ms"]  # type: ignore[operator]


def test_save_writes_the_profiles_that_an_engine_needs(
    orin_bundle: Path, make_result: Callable[..., CompileResult]
) -> None:
    manifest = json.loads((orin_bundle / "manifest.json").read_bytes())
    assert json.loads(manifest["metadata"]["qcompile.shapes"]) == {"x": [[1, 4], [2, 4], [8, 4]]}
