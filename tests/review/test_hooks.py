"""The entries of .pre-commit-hooks.yaml, run as pre-commit runs them: with file names, in the repository."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.quantizing import quantized
from tests.review.scratch import TEXT, WEIGHT, Scratch, bash, model, new_repository

pytestmark = pytest.mark.skipif(not (shutil.which("git") and shutil.which("bash")), reason="git or bash is missing")
HOOKS = Path(__file__).parent.parent.parent / ".pre-commit-hooks.yaml"


def hook(scratch: Scratch, name: str, *files: str, **environment: str) -> tuple[int, list[str]]:
    """Exit status and lines of one hook with its default arguments."""
    text = HOOKS.read_text(encoding="utf-8")
    found = re.search(rf"id: {name}\n(?:  .*\n)*?  entry: (.*)\n  args: \[(.*)\]\n", text)
    assert found is not None
    done = bash(f"{found[1]} {found[2].replace(',', '')} {' '.join(files)}", scratch.root, environment)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    found = new_repository(tmp_path / "repository")
    found.put("int8.onnx", quantized(TEXT, w=WEIGHT, w2=WEIGHT)[0])
    found.commit()
    return found


def test_diff_compares_what_is_staged_with_the_last_commit(scratch: Scratch) -> None:
    scratch.put("int8.onnx", model())
    scratch.put("new.onnx", model())
    scratch.git("add", "-A")
    scratch.put("int8.onnx", b"not what is staged")
    status, lines = hook(scratch, "qcompile-diff", "int8.onnx", "new.onnx")
    assert status == 1
    assert lines[0].startswith("int8.onnx: differs in precision (precision 2")
    assert lines[1] == "  precision: int8 x int8[axis 1] -> float32 x float32: MatMul 2 (fc1, fc2)"
    assert lines[2].startswith("new.onnx: new; findings by the rules of orin: ")


def test_diff_of_a_push_takes_its_range(scratch: Scratch) -> None:
    base = scratch.git("rev-parse", "HEAD")
    scratch.put("int8.onnx", model())
    head = scratch.commit()
    scratch.put("int8.onnx", model(3.0))
    scratch.commit()
    push = {"PRE_COMMIT_FROM_REF": base, "PRE_COMMIT_TO_REF": head}
    assert hook(scratch, "qcompile-diff", "int8.onnx", **push)[0] == 1
    push = {"PRE_COMMIT_FROM_REF": head, "PRE_COMMIT_TO_REF": "HEAD"}
    status, lines = hook(scratch, "qcompile-diff", "int8.onnx", **push)
    assert (status, lines) == (0, ["int8.onnx: differs in weights (weights 1)"])


def test_lint_reads_what_is_staged(scratch: Scratch) -> None:
    _, lines = hook(scratch, "qcompile-lint", "int8.onnx")
    assert lines[0].startswith("int8.onnx: findings by the rules of orin: ")
    scratch.put("int8.onnx", model(text=TEXT.replace("Relu", "com.microsoft.Gelu")))
    scratch.git("add", "-A")
    status, lines = hook(scratch, "qcompile-lint", "int8.onnx")
    assert status == 1
    assert any("QC513 error" in line for line in lines)


def test_faults_are_one_line(scratch: Scratch, tmp_path: Path) -> None:
    scratch.put("bad.onnx", b"nothing")
    scratch.git("add", "-A")
    assert hook(scratch, "qcompile-lint", "bad.onnx") == (
        3, ["bad.onnx: cannot be reviewed: this is a text file, not an ONNX model (name the .onnx file)"],
    )  # fmt: skip
    status, lines = hook(Scratch(tmp_path), "qcompile-lint", "bad.onnx")
    assert status == 2
    assert lines == [f"qcompile: error: {tmp_path}: not a git repository (check the model's repository out first)"]
