"""Graphs before and after a pass, as text: tests/ir/*.onnxtxt.

A file holds `# RUN: pass{option=value} | pass`, a model, and `# CHECK:` lines (LLVM's FileCheck) for the model after.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import onnx_ir as ir
import pytest
from filecheck.finput import FInput
from filecheck.matcher import Matcher
from filecheck.options import Options
from filecheck.parser import Parser

from qcompiler.backends.onnxruntime.lower_convs import LowerConvs
from qcompiler.backends.onnxruntime.lower_lookups import LowerLookups
from qcompiler.backends.onnxruntime.lower_products import LowerProducts
from qcompiler.backends.onnxruntime.unsigned_activations import UnsignedActivations
from qcompiler.backends.tensorrt.index_in_float import IndexInFloat
from qcompiler.passes.normalize.infer_shapes import InferShapes
from qcompiler.pipeline import Pass
from qcompiler.registry import find_pass

FOLDER = Path(__file__).parent / "ir"
_BACKENDS = (UnsignedActivations, LowerLookups, LowerProducts, LowerConvs, IndexInFloat)
UNLISTED: dict[str, type[Pass]] = {item.name: item for item in _BACKENDS}
"""Passes of backends have no row in the table of names."""


def parsed(text: str) -> Pass:
    """`name{option=value,...}`, values in Python's notation."""
    found = re.fullmatch(r"\s*([a-z0-9-]+)(?:\{(.*)\})?\s*", text)
    assert found is not None, text
    name, options = found[1], found[2] or ""
    call = ast.parse(f"f({options})", mode="eval").body
    assert isinstance(call, ast.Call)
    values = {str(item.arg): ast.literal_eval(item.value) for item in call.keywords}
    return (UNLISTED.get(name) or find_pass(name))(**values)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.onnxtxt")), ids=lambda path: path.stem)
def test_graph_after(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = path.read_text(encoding="utf-8")
    (run,) = re.findall(r"^# RUN:(.*)$", text, re.M)
    assert "# CHECK" in text
    model = ir.from_onnx_text(text)
    InferShapes().run(model)
    for item in run.split("|"):
        parsed(item).run(model)
    after = ir.to_onnx_text(model)
    options = Options(match_filename=str(path))
    failed = Matcher(options, FInput("<after>", after), Parser.from_opts(options)).run()
    assert not failed, capsys.readouterr().err + after
