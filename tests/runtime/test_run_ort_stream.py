"""run_ort.py --stream: one run a step, states handed on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler import runtime


def stream(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(folder / "run_ort.py"), "--stream", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_steps_as_the_runtime_streams_them(stream_bundle: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    x, gain = random.standard_normal((2, 6)).astype(np.float32), np.array([0.5, 2], np.float32)
    np.savez(tmp_path / "in.npz", x=x, gain=gain)
    done = stream(stream_bundle, str(tmp_path / "in.npz"), str(tmp_path / "out.npz"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("6 steps, ")
    held = runtime.load(stream_bundle).stream()
    wanted = [held.run({"x": x[:, t : t + 1], "gain": gain}) for t in range(6)]
    with np.load(tmp_path / "out.npz") as got:
        np.testing.assert_array_equal(got["y"], np.concatenate([item["y"] for item in wanted], axis=1))
        np.testing.assert_array_equal(got["present_state_0"], wanted[-1]["present_state_0"])
        assert got["present_0_key"].shape == (2, 6, 2)


def test_given_states_go_on(stream_bundle: Path, tmp_path: Path) -> None:
    x, gain = np.ones((2, 4), np.float32), np.ones(2, np.float32)
    np.savez(tmp_path / "all.npz", x=x, gain=gain)
    np.savez(tmp_path / "half.npz", x=x[:, :2], gain=gain)
    assert stream(stream_bundle, str(tmp_path / "all.npz"), str(tmp_path / "one.npz")).returncode == 0
    assert stream(stream_bundle, str(tmp_path / "half.npz"), str(tmp_path / "two.npz")).returncode == 0
    with np.load(tmp_path / "two.npz") as states:
        first: dict[str, Any] = {
            "past_state_0": states["present_state_0"], "past_key_values_0_key": states["present_0_key"]
        }  # fmt: skip
    np.savez(tmp_path / "rest.npz", x=x[:, 2:], gain=gain, **first)
    assert stream(stream_bundle, str(tmp_path / "rest.npz"), str(tmp_path / "three.npz")).returncode == 0
    with np.load(tmp_path / "one.npz") as one, np.load(tmp_path / "three.npz") as three:
        np.testing.assert_array_equal(three["y"], one["y"][:, 2:])
        np.testing.assert_array_equal(three["present_0_key"], one["present_0_key"])


def test_faults_are_one_line(stream_bundle: Path, bundle: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.ones((2, 4), np.float32))
    for folder, words in ((stream_bundle, "lacks gain"), (bundle, "carries no state")):
        done = stream(folder, str(tmp_path / "in.npz"))
        assert done.returncode == 1 and words in done.stderr and done.stderr.count("\n") == 1
    assert "needs a file" in stream(stream_bundle).stderr
