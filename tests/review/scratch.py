"""A scratch repository with real commits."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

import qcompiler
from tests.building import build

TEXT = "m (float[N, 64] x) => (float[N, 64] y) { [fc1] a = MatMul(x, w) [act] b = Relu(a) [fc2] y = MatMul(b, w2) }"
WEIGHT = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)


def model(factor: float = 1.0, text: str = TEXT) -> ir.Model:
    """Two products; `factor` scales the second weight."""
    return build(text, w=WEIGHT, w2=WEIGHT.T * np.float32(factor))


@dataclass(frozen=True)
class Scratch:
    """A repository in `root`."""

    root: Path

    def git(self, *words: str) -> str:
        """Output of a git command."""
        own = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *own, *words], cwd=self.root, capture_output=True, text=True, check=True,
                              env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull})  # fmt: skip
        return done.stdout.strip()

    def put(self, name: str, content: ir.Model | bytes) -> Path:
        """Write a file."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            ir.save(content, path)
        return path

    def put_external(self, name: str, content: ir.Model) -> None:
        """Write a model with its weights in NAME.data."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (self.root / f"{name}.data").unlink(missing_ok=True)
        onnx.save(ir.to_proto(content), path, save_as_external_data=True, location=f"{path.name}.data",
                  size_threshold=0)  # fmt: skip

    def to_pointer(self, name: str, *, held: bool = True) -> None:
        """Let a written file be a git-LFS pointer, its content among the objects that git-lfs fetched."""
        path = self.root / name
        content = path.read_bytes()
        oid = hashlib.sha256(content).hexdigest()
        if held:
            place = self.root / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"
        path.write_text(text, encoding="utf-8")

    def commit(self, message: str = "change") -> str:
        """Commit everything; the commit's hash."""
        self.git("add", "-A")
        self.git("commit", "-qm", message)
        return self.git("rev-parse", "HEAD")


def new_repository(root: Path) -> Scratch:
    """An empty one."""
    root.mkdir(parents=True, exist_ok=True)
    found = Scratch(root)
    found.git("init", "-q", "-b", "main")
    return found


def bash(script: str, folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run what a step of the action runs, with this checkout's package and Python."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    package = str(Path(qcompiler.__file__).parent.parent)
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script], cwd=folder, capture_output=True, text=True, check=False, timeout=120,
        env={"PATH": path, "PYTHONPATH": package, "HOME": str(folder), **environment},
    )  # fmt: skip
