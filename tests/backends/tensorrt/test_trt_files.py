"""Shape profiles, build_engine.sh run against a stand-in for trtexec, and the build check without NVIDIA's library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx_ir as ir
import pytest

from qcompiler.backends.tensorrt import build_check
from qcompiler.backends.tensorrt.engine_script import engine_script
from qcompiler.backends.tensorrt.profiles import read_profiles, shape_profiles, write_profiles
from qcompiler.backends.tensorrt.targets import ORIN_JP6

TEXT = """<ir_version: 9, opset_import: ["" : 19]>
g (int64[B,S] ids, int64[B,S] mask, float[1,4] k) => (float[B,S] y) { y = Cast<to = 1>(ids) }"""


def test_profiles_from_samples_given_shapes_and_nothing() -> None:
    model = ir.from_onnx_text(TEXT)
    shapes = [{"ids": (4, size), "mask": (4, size)} for size in (16, 100, 24)]
    seen = shape_profiles(model, {}, shapes)
    assert seen == dict.fromkeys(("ids", "mask"), ((1, 16), (4, 24), (4, 100)))
    given = shape_profiles(model, {"ids": ((1, 8), (2, 16), (3, 32))})
    assert given["mask"] == given["ids"] == ((1, 8), (2, 16), (3, 32)), "equal symbols, equal sizes"
    assert shape_profiles(model, {})["ids"] == ((1, 1), (1, 128), (8, 512))


def test_a_total_length_stays_the_sum_of_past_and_new_tokens() -> None:
    model = ir.from_onnx_text("""<ir_version: 9, opset_import: ["": 20]>
        m (int64[B, S] ids, int64[B, T] mask, float[B, 2, P, 8] past) => (int64[B, S] y) { y = Identity(ids) }""")
    lengths = [(4, 252), (64, 192), (256, 0), (1, 100)]
    shapes = [{"ids": (2, new), "mask": (2, new + past), "past": (2, 2, past, 8)} for new, past in lengths]
    profiles = shape_profiles(model, {}, shapes)
    for corner in range(3):
        new, total, past = (profiles[name][corner][axis] for name, axis in (("ids", 1), ("mask", 1), ("past", 2)))
        assert total == new + past
    assert [profiles["ids"][corner][1] for corner in (0, 2)] == [1, 256]
    assert (profiles["ids"][1][1], profiles["past"][1][2]) in lengths, "the best shapes are real ones"
    assert [shape[0] for shape in profiles["past"]] == [1, 2, 2]


def test_one_set_of_sizes_proves_no_sum() -> None:
    model = ir.from_onnx_text("""<ir_version: 9, opset_import: ["": 20]>
        m (float[1, A, B, C] x) => (float[1, A, B, C] y) { y = Identity(x) }""")
    assert shape_profiles(model, {}, [{"x": (1, 3, 4, 7)}])["x"] == ((1, 3, 4, 7),) * 3


def test_profiles_travel_in_the_file(tmp_path: Path) -> None:
    model = ir.from_onnx_text(TEXT)
    profiles = shape_profiles(model, {"ids": ((1, 8), (2, 16), (3, 32))})
    write_profiles(model, profiles)
    ir.save(model, tmp_path / "m.onnx")
    assert read_profiles(ir.load(tmp_path / "m.onnx")) == profiles


@pytest.mark.parametrize(("version", "typed"), [("100300", True), ("110401", False), ("", True)])
def test_script_picks_flags_by_version(tmp_path: Path, version: str, typed: bool) -> None:
    script = tmp_path / "build_engine.sh"
    script.write_bytes(engine_script(ORIN_JP6, {"x": ((1, 3), (2, 3), (4, 3))}))
    fake = tmp_path / "trtexec"
    banner = f'echo "&&&& RUNNING TensorRT.trtexec [TensorRT v{version}] # trtexec --help"' if version else "true"
    fake.write_text(
        f'#!/bin/sh\nif [ "$1" = --help ]; then {banner}; else printf "%s\\n" "$@" > "{tmp_path}/arguments"; fi\n'
    )
    fake.chmod(0o755)
    subprocess.run(["bash", str(script)], env={**os.environ, "TRTEXEC": str(fake)}, check=True, capture_output=True)
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert f"--onnx={tmp_path}/model.onnx" in arguments and f"--saveEngine={tmp_path}/model.plan" in arguments
    assert [flag for flag in arguments if "Shapes" in flag] == [
        "--minShapes=x:1x3",
        "--optShapes=x:2x3",
        "--maxShapes=x:4x3",
    ]
    assert ("--stronglyTyped" in arguments) == typed


def test_script_without_trtexec_says_so(tmp_path: Path) -> None:
    script = tmp_path / "build_engine.sh"
    script.write_bytes(engine_script(ORIN_JP6, {}))
    done = subprocess.run(
        ["bash", str(script)], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "trtexec not found" in done.stderr


def test_absent_library_is_a_verdict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build_check, "_LIBRARIES", ("no_such_library",))
    assert build_check.check_file(tmp_path / "m.onnx")["verdict"] == "absent"
    assert build_check.build(tmp_path / "m.onnx")["verdict"] == "absent"


def test_crash_and_silence_are_verdicts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build_check, "_LIBRARIES", ("sys",))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    crashed = build_check.check_file(tmp_path / "m.onnx")
    assert crashed["verdict"] == "refused" and "status 1" in crashed["messages"][0]
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 20\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(sleeper))
    assert build_check.check_file(tmp_path / "m.onnx", timeout=0.2)["verdict"] == "undecided"
