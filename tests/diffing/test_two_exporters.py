"""One torch module through both exporters of torch: what differs is said, and nothing of the weights."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest

from qcompiler.diffing.changes import Level
from qcompiler.reading import load_model
from tests.diffing.pairs import diff, lines, renamed

torch = pytest.importorskip("torch")


def exported(module: Any, path: Path, *, dynamo: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.ones(2, 3, 8, 8),), path, dynamo=dynamo, opset_version=18, input_names=["x"],
                          output_names=["y"], verbose=False)  # fmt: skip


def test_two_exporters(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(128, 16), torch.nn.GELU(), torch.nn.Linear(16, 4), torch.nn.Softmax(dim=1),
    ).eval()  # fmt: skip
    try:
        exported(module, tmp_path / "script.onnx", dynamo=False)
        exported(module, tmp_path / "dynamo.onnx", dynamo=True)
    except Exception as error:
        pytest.skip(f"an exporter fails here: {error}")
    script, dynamo = (load_model(tmp_path / f"{name}.onnx", any_domain=True) for name in ("script", "dynamo"))
    found = diff(script, dynamo, fail_on=Level.PRECISION)
    assert not lines(found, Level.WEIGHTS)
    assert not lines(found, Level.PRECISION)
    assert found.counts.get(Level.STRUCTURE, 0) <= 6, list(found.changes)
    with torch.no_grad():
        module[4].weight *= 1.5
    exported(module, tmp_path / "tuned.onnx", dynamo=True)
    tuned = renamed(ir.from_proto(onnx.load(tmp_path / "tuned.onnx")))  # the exporter keeps weights in another file
    (what,) = lines(diff(dynamo, tuned), Level.WEIGHTS)
    assert "by up to 0.5 of its largest magnitude" in what
