"""Attention as both exporters write it: every product with probabilities is found and looked up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.driver import compile_model
from qcompiler.lookup import NODE_KEY
from qcompiler.options import CompileOptions
from qcompiler.session import run_all
from tests.equivalence import random_feeds
from tests.torch_nets import LAYERS, NETS

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")


@pytest.mark.parametrize(("exporter", "opset"), [("torchscript", 17), ("dynamo", 18)])
@pytest.mark.parametrize("name", ["vit", "decoder_without_cache", "bert"])
@pytest.mark.filterwarnings("ignore")
def test_every_layer_is_looked_up(name: str, exporter: str, opset: int, tmp_path: Path) -> None:
    from qcompiler.torch_export import export

    if name == "bert":
        pytest.importorskip("transformers")
    torch.manual_seed(0)
    net, inputs = NETS[name].make()
    path = tmp_path / "m.onnx"
    export(net.eval(), inputs, path, exporter=exporter, opset=opset, check=False)
    source = ir.load(path)
    sizes = {"batch_size": 2, "sequence_length": 6, "total_sequence_length": 6}
    feeds = []
    for seed in range(4):
        drawn = dict(random_feeds(source, sizes, seed))
        feeds.append({key: np.ones_like(value) if key == "attention_mask" else value for key, value in drawn.items()})
    result = compile_model(
        path, CompileOptions(calib=feeds, softmax="tan", softmax_bits=4, method="minmax", verify=False, threads=1)
    )
    assert len(result.plan.lookups) == LAYERS
    assert result.facts["plan"]["softmax"]["skipped"] == {}
    gathers = [node for node in result.model.graph if NODE_KEY in node.metadata_props]
    assert len(gathers) == LAYERS
    tensors = list(result.plan.lookups)
    before = run_all(result.reference, feeds[:1], tensors)[0]
    for tensor in tensors:  # probabilities, whatever stands between them and the softmax
        np.testing.assert_allclose(before[tensor].sum(-1), 1, atol=1e-5)
