"""Bundles for arm64 on the real arm64 onnxruntime, emulated: Armv8.2 with dot products, as Orin's processor has.

`make test-arm64` makes the emulated system first. Emulation says nothing about speed.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import models
from models.assets import cache_folder
from models.zoo import MissingAsset
from qcompiler import compile as compile_model
from qcompiler.result import CompileResult

ROOT = Path(__file__).resolve().parents[2]
ARM64 = cache_folder() / "arm64"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ARM64 / ".done").is_file(), reason="no arm64 Python is there: make test-arm64"),
]


def emulated(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the arm64 Python; cortex-a76 has the instructions of Orin's Cortex-A78AE that matter here."""
    path = os.pathsep.join([str(ARM64 / "packages"), str(ROOT)])
    command = [str(ARM64 / "emulator"), "-cpu", "cortex-a76", "-L", str(ARM64 / "system"), str(ARM64 / "python")]
    kept = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run([*command, *map(str, words)], env=kept, capture_output=True, text=True, check=False)


def test_the_processor_is_an_arm() -> None:
    code = "import platform, onnxruntime as o; print(platform.machine(), o.get_available_providers())"
    assert emulated("-c", code).stdout.startswith("aarch64 ['")


def test_a_changed_output_fails(make_result: Callable[..., CompileResult], tmp_path: Path) -> None:
    folder = make_result().save(tmp_path / "out")
    done = emulated(folder / "run_ort.py", "--check")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "PASSED"), done.stderr
    with np.load(folder / "golden/0.outputs.npz") as archive:
        moved = {name: archive[name] + 1 for name in archive.files}
    np.savez(folder / "golden/0.outputs.npz", **moved)
    assert "differs from manifest.json" in emulated(folder / "run_ort.py", "--check").stderr
    done = emulated(folder / "run_ort.py", "--check", "--no-hash")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "FAILED")


@pytest.mark.parametrize("name", ["typeseg-unet", "paraphrase-minilm", "typeseg-mamba"])
def test_real_models_replay(name: str, tmp_path: Path) -> None:
    try:
        model = models.load(name)
        path, batches = model.path(), model.calibration()[:4]
    except MissingAsset as missing:
        pytest.skip(str(missing))
    result = compile_model(path, target="ort-cpu-arm64", calibration=batches, method="minmax", build_check="off")
    folder = result.save(tmp_path / "m.ort-cpu-arm64")
    done = emulated(folder / "run_ort.py", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_runtime_package_runs_there(make_result: Callable[..., CompileResult], tmp_path: Path) -> None:
    folder = make_result().save(tmp_path / "out")
    code = (
        "import sys, numpy as np; from qcompiler import runtime; model = runtime.load(sys.argv[1], threads=1)\n"
        "print(model.run({'x': np.ones((2, 4), np.float32)})['y'].shape)"
    )
    assert emulated("-c", code, folder).stdout == "(2, 3)\n"
