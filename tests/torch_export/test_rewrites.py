"""Rewrites find in nets of both exporters what a person counts there, and each keeps its certificate."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.driver import compile_model
from qcompiler.options import CompileOptions
from qcompiler.passes.rotate.rotations import KINDS, PASSES, found_sites
from qcompiler.passes.sites.explain import canonical_form
from qcompiler.passes.sites.find import find_sites
from qcompiler.passes.sites.records import Site
from qcompiler.passes.split_units.hidden_layers import hidden_layers
from qcompiler.passes.split_units.split_units import SplitUnits
from qcompiler.session import Feeds
from tests.equivalence import random_feeds
from tests.proving import proven, shifted_and_scaled
from tests.torch_nets import NETS

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
OPSETS = {"torchscript": (13, 17), "dynamo": (18, 23)}
FAST = ("vit", "decoder_without_cache", "bert", "gpt2")
CASES = [
    pytest.param(name, exporter, opset, id=f"{name}-{exporter}-{opset}",
                 marks=[] if opset == 17 and name in FAST else [pytest.mark.slow])
    for name, net in NETS.items()
    for exporter in net.exporters
    for opset in OPSETS[exporter]
]  # fmt: skip


LENGTHS = {"batch_size": 2, "sequence_length": 6, "past_sequence_length": 4, "total_sequence_length": 10}
HOWS = [*({"equalize": word} for word in ("auto", "os_plus", "smooth", "outlier_tune")),
        *({"rotate": word} for word in ("auto", "all"))]  # fmt: skip


def feeds_of(model: ir.Model, seed: int) -> Feeds:
    """Seeded; every position is a real one."""
    feeds = dict(random_feeds(model, LENGTHS, seed))
    return {name: np.ones_like(array) if name == "attention_mask" else array for name, array in feeds.items()}


def exported(name: str, exporter: str, opset: int, path: Path) -> Path:
    from qcompiler.torch_export import export

    if name not in ("vit", "decoder", "decoder_without_cache", "mamba", "mamba2", "pre_norm", "post_norm"):
        pytest.importorskip("transformers")
    torch.manual_seed(0)
    net, inputs = NETS[name].make()
    with torch.no_grad():
        for key, value in net.named_parameters():
            if value.ndim == 1:  # gains that are all one and biases that are zero prove nothing
                value.add_(0.3 * torch.randn_like(value))
            assert key
    export(net.eval(), inputs, path, exporter=exporter, opset=opset, check=False)
    return path


@pytest.mark.parametrize(("name", "exporter", "opset"), CASES)
@pytest.mark.filterwarnings("ignore")
def test_sites_are_what_a_person_counts_and_every_rewrite_is_proven(
    name: str, exporter: str, opset: int, tmp_path: Path
) -> None:
    net = NETS[name]
    path = exported(name, exporter, opset, tmp_path / "m.onnx")
    for target in ("ort-cpu", "orin-jp7"):
        model, _ = canonical_form(path, target)
        found = find_sites(model)
        assert Counter(site.kind.value for site in found.sites) == net.sites
        assert sum(len(site.edges) for site in found.sites) == net.edges
        assert {kind: len(sites) for kind, sites in found_sites(model).items()} == net.rotations
        hidden = [item.name for item in hidden_layers(model) if isinstance(item, Site)]
        assert len(hidden) == sum(net.sites.get(kind, 0) for kind in ("activation", "up-down", "relu-mlp"))
    feeds = [feeds_of(model, seed) for seed in (3, 4)]
    result = proven(model.clone(), shifted_and_scaled(model), len(found.sites), feeds)
    assert Counter(site.kind.value for site in find_sites(result).sites)["norm"] == net.sites["norm"]
    result = proven(model.clone(), SplitUnits(dict.fromkeys(hidden, (1, 5))), len(hidden), feeds) if hidden else model
    assert Counter(site.kind.value for site in find_sites(result).sites) == net.sites
    assert {kind: len(sites) for kind, sites in found_sites(result).items()} == net.rotations
    result = model.clone()
    for kind in KINDS:
        if count := net.rotations.get(kind, 0):
            result = proven(result, PASSES[kind](), count, feeds)
            assert not PASSES[kind]().run(result.clone()).modified, "a second run changes nothing"


@pytest.mark.slow
@pytest.mark.parametrize("how", HOWS, ids=lambda how: "-".join(*how.items()))
@pytest.mark.parametrize("name", ["vit", "decoder_without_cache", "mamba", "bert", "gpt2", "llama"])
@pytest.mark.filterwarnings("ignore")
def test_a_compile_undoes_nothing(name: str, how: dict[str, Any], tmp_path: Path) -> None:
    path = exported(name, "torchscript", 17, tmp_path / "m.onnx")
    model, _ = canonical_form(path, "ort-cpu")
    feeds = [feeds_of(model, seed) for seed in range(6)]
    options = CompileOptions(
        target="orin", calib=feeds, strict=True, goal_sqnr=200.0, threads=1, build_check="off", verify=False, **how
    )
    result = compile_model(path, options)
    assert not result.gates
    assert not [item for item in result.diagnostics if item.code in ("QC401", "QC402")]
    if how.get("rotate") == "all":
        assert {kind: len(item["sites"]) for kind, item in result.plan.rotate.items()} == NETS[name].rotations
