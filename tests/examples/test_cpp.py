"""The C++ examples: syntax everywhere there is a compiler; built and run where onnxruntime's headers are at hand.

`make examples` fetches the headers. TensorRT's program is only checked against a minimal interface: no registry has its
headers, and nothing here could run it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

import models
from models.assets import cache_folder
from models.zoo import MissingAsset
from qcompiler import compile as compile_model
from qcompiler import golden, runtime
from qcompiler.manifest import sha256_of
from qcompiler.options import CompileOptions
from qcompiler.plan import QuantPlan, StateQuant
from qcompiler.result import CompileResult
from qcompiler.scheme import INT8_ACTIVATION, TensorQuant
from qcompiler.session import Feeds, run_all

ROOT = Path(__file__).resolve().parents[2]
SOURCES, MINIMAL = ROOT / "examples" / "cpp", Path(__file__).parent / "minimal"
HEADERS = cache_folder() / "headers" / "onnxruntime"
COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
MakeResult = Callable[..., CompileResult]

TYPES_TEXT = """<ir_version: 8, opset_import: ["" : 17]>
m (float[N, 2] x, int64[N] i, bool[N] b, uint8[N, 1] u)
  => (float[N, 2] y, float16[N, 2] h, double[N, 2] d, int64[N] j, bool[N] c, int8[N, 1] s) {
  y = Neg(x)
  h = Cast<to=10>(x)
  d = Cast<to=11>(x)
  j = Neg(i)
  c = Not(b)
  s = Cast<to=3>(u)
}"""


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
@pytest.mark.parametrize("name", ["onnxruntime_main.cpp", "tensorrt_main.cpp"])
def test_syntax_against_a_minimal_interface(name: str) -> None:
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{MINIMAL}"]
    done = subprocess.run([str(COMPILER), *flags, str(SOURCES / name)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The onnxruntime example, built by its CMake file with the library of the installed wheel."""
    if COMPILER is None or shutil.which("cmake") is None:
        pytest.skip("no C++ compiler or no cmake")
    if not (HEADERS / "onnxruntime_cxx_api.h").is_file():
        pytest.skip("onnxruntime's headers are not there: make examples")
    libraries = sorted((Path(ort.__file__).parent / "capi").glob("libonnxruntime.so*"))
    if not libraries:
        pytest.skip("this onnxruntime has no shared library")
    root, build = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("build")
    (root / "lib").mkdir()
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (root / "lib" / name).symlink_to(libraries[0])
    (root / "include").symlink_to(HEADERS)
    for command in (["-S", str(SOURCES), "-B", str(build), f"-DONNXRUNTIME_ROOT={root}"], ["--build", str(build)]):
        done = subprocess.run(["cmake", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "qcompile_onnxruntime"


def run(program: Path, *words: object) -> tuple[int, str, str]:
    done = subprocess.run([str(program), *map(str, words)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def typed_bundle(make_result: MakeResult, folder: Path) -> Path:
    """A bundle with every kind of element that the examples read."""
    model = ir.from_onnx_text(TYPES_TEXT)
    feeds = {
        "x": np.asarray([[1.5, -2], [0, np.inf], [np.nan, 1e-3]], np.float32), "i": np.asarray([5, -3, 2**40]),
        "b": np.asarray([True, False, True]), "u": np.asarray([[0], [7], [127]], np.uint8),
    }  # fmt: skip
    pairs = tuple(zip([feeds], run_all(model, [feeds]), strict=True))
    return make_result(model=model, golden=pairs, options=CompileOptions(format="ort")).save(folder)


def change_golden(folder: Path, output: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Another expected output, with the manifest told so."""
    path = folder / "golden" / "0.outputs.npz"
    with np.load(path) as archive:
        arrays = {name: change(archive[name]) if name == output else archive[name] for name in archive.files}
    golden.write_npz(path, arrays)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["golden/0.outputs.npz"]["sha256"] = sha256_of(path)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_replays_all_element_types_in_both_formats(program: Path, make_result: MakeResult, tmp_path: Path) -> None:
    folder = typed_bundle(make_result, tmp_path / "out")
    for words in ((), ("model.ort",)):
        status, said, errors = run(program, folder, *words)
        assert status == 0, said + errors
        assert said.splitlines()[-1] == "PASSED"
        assert said.count("ok   sample 0") == 6


@pytest.mark.parametrize(
    ("output", "change"),
    [
        ("y", lambda array: array + 0.1), ("h", lambda array: array + np.float16(1)),
        ("d", lambda array: np.where(np.isnan(array), 0, array)), ("j", lambda array: array + 1),
        ("c", lambda array: ~array), ("s", lambda array: array[:2]), ("s", lambda array: array.astype(np.int16)),
    ],
)  # fmt: skip
def test_an_output_outside_its_tolerance_fails(
    program: Path, make_result: MakeResult, tmp_path: Path, output: str, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    folder = typed_bundle(make_result, tmp_path / "out")
    change_golden(folder, output, change)
    status, said, _ = run(program, folder)
    assert status == 1
    assert said.splitlines()[-1] == "FAILED"
    assert [line.split()[3].rstrip(":") for line in said.splitlines() if line.startswith("FAIL ")] == [output]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("manifest.json", None, "manifest.json is missing"),
        ("manifest.json", b'{"schema": ', "manifest.json is damaged"),
        ("manifest.json", b"{}", "manifest.json has no key 'schema'"),
        ("model.onnx", None, "model.onnx is missing"), ("plan.json", b"{}", "plan.json differs from manifest.json"),
    ],
)  # fmt: skip
def test_a_wrong_bundle_is_refused_in_one_line(
    program: Path, make_result: MakeResult, tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    folder = make_result().save(tmp_path / "out")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    status, _, errors = run(program, folder)
    assert status == 1
    assert errors.startswith(f"qcompile_onnxruntime: {words}")
    assert errors.count("\n") == 1


def test_a_swapped_model_is_refused_in_one_line(program: Path, make_result: MakeResult, tmp_path: Path) -> None:
    folder = make_result().save(tmp_path / "out")
    other = ir.from_onnx_text('<ir_version: 8, opset_import: ["" : 17]> m (float[2] a) => (float[2] b) { b = Relu(a) }')
    ir.save(other, folder / "model.onnx")
    assert "model.onnx differs from manifest.json (sha256)" in run(program, folder)[2]
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["model.onnx"]["sha256"] = sha256_of(folder / "model.onnx")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "model.onnx has other inputs or outputs than manifest.json says" in run(program, folder)[2]
    status, _, errors = run(program, folder, "plan.json")
    assert status == 1
    assert errors.count("\n") == 1


CODES_TEXT = """<ir_version: 8, opset_import: ["" : 17]>
m (float[B, 4] x, int8[B, 4] past_h, float[B, L] past_key_values_0_key)
  => (float[B, 4] y, int8[B, 4] present_h, float[B, T] present_0_key)
  <float s = {0.3}, int8 z = {0}, int64[1] axis = {1}> {
  h = DequantizeLinear(past_h, s, z)
  y = Add(x, h)
  present_h = QuantizeLinear(y, s, z)
  sum = ReduceSum<keepdims=1>(x, axis)
  present_0_key = Concat<axis=1>(past_key_values_0_key, sum)
}"""


def codes_bundle(make_result: MakeResult, folder: Path) -> Path:
    """A state that is carried as int8, and a cache of floats that grows."""
    model, quant = ir.from_onnx_text(CODES_TEXT), TensorQuant(INT8_ACTIVATION, np.asarray(0.3, np.float32))
    feeds: Feeds = {"x": np.ones((2, 4), np.float32), "past_h": np.ones((2, 4), np.int8),
                    "past_key_values_0_key": np.ones((2, 1), np.float32)}  # fmt: skip
    pairs = tuple(zip([feeds], run_all(model, [feeds]), strict=True))
    plan = QuantPlan(states={"past_h": StateQuant("present_h", quant)})
    return make_result(model=model, plan=plan, golden=pairs).save(folder)


HALVES = np.asarray([[0.15, 0.45, -0.15, -0.75], [60, -60, 1e-9, 0.3]])  # .5, 1.5, -.5 and -2.5 codes; both ends


@pytest.mark.parametrize(
    "first",
    [
        {}, {"past_h": HALVES.astype(np.float32)}, {"present_h": HALVES.astype(np.float16)}, {"past_h": HALVES},
        {"past_h": np.arange(8, dtype=np.int8).reshape(2, 4)},
        {"present_0_key": np.ones((2, 3), np.float32), "present_h": HALVES.astype(np.float32)},
    ],
)  # fmt: skip
def test_a_stream_is_that_of_python(
    program: Path, make_result: MakeResult, tmp_path: Path, first: dict[str, np.ndarray]
) -> None:
    """States from zero, or where a prefill left them: floats are rounded to codes."""
    folder = codes_bundle(make_result, tmp_path / "out")
    tokens = np.random.default_rng(0).standard_normal((5, 2, 4)).astype(np.float32)
    golden.write_npz(tmp_path / "in.npz", {"x": tokens, **first})
    status, said, errors = run(program, folder, "--stream", tmp_path / "in.npz", tmp_path / "out.npz")
    assert (status, said) == (0, "5 runs, 2 states carried\n"), errors
    stream = runtime.load(folder).stream(first)
    wanted = np.stack([stream.run({"x": token})["y"] for token in tokens])
    with np.load(tmp_path / "out.npz") as found:
        assert set(found.files) == {"y", "present_h", "present_0_key"}
        np.testing.assert_array_equal(found["y"], wanted)
        np.testing.assert_array_equal(found["present_h"], stream.states["past_h"])
        np.testing.assert_array_equal(found["present_0_key"], stream.states["past_key_values_0_key"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"other": np.ones((2, 2, 4), np.float32)}, "in.npz lacks x"),
        ({"x": np.float32(1)}, "in.npz has no leading axis of runs"),
        ({}, "in.npz is missing"),
    ],
)
def test_a_stream_that_cannot_run_is_one_line(
    program: Path, make_result: MakeResult, tmp_path: Path, given: dict[str, np.ndarray], words: str
) -> None:
    folder = codes_bundle(make_result, tmp_path / "out")
    if given:
        golden.write_npz(tmp_path / "in.npz", given)
    status, _, errors = run(program, folder, "--stream", tmp_path / "in.npz", tmp_path / "out.npz")
    assert status == 1 and words in errors and errors.count("\n") == 1
    assert not (tmp_path / "out.npz").exists()
    plain = make_result().save(tmp_path / "plain")
    golden.write_npz(tmp_path / "in.npz", {"x": np.ones((1, 2, 4), np.float32)})
    assert "the model carries no state" in run(program, plain, "--stream", tmp_path / "in.npz", tmp_path / "o.npz")[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["typeseg-unet", "paraphrase-minilm"])
def test_a_real_models_bundle(program: Path, tmp_path: Path, name: str) -> None:
    try:
        model = models.load(name)
        path, batches = model.path(), model.calibration()[:4]
    except MissingAsset as missing:
        pytest.skip(str(missing))
    result = compile_model(path, target="orin", calibration=batches, method="minmax", build_check="off")
    folder = result.save(tmp_path / "m.orin")
    status, said, errors = run(program, folder)
    assert status == 0, said + errors
    data = bytearray((folder / "host.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "host.onnx").write_bytes(data)
    assert run(program, folder)[2] == "qcompile_onnxruntime: host.onnx differs from manifest.json (sha256)\n"
