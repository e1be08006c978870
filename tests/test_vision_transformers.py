"""ViT, DeiT, Swin and hybrids from both torch exporters: every layer integer, every norm and attention known."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qcompiler
from qcompiler.passes.canonical.forms import Form, Role, form_of, role_of
from qcompiler.passes.equalize.fold_shift_scale import FoldShiftScale, ShiftScale
from qcompiler.passes.sites.explain import canonical_form
from qcompiler.passes.sites.find import find_sites
from qcompiler.passes.sites.records import Kind
from qcompiler.passes.sites.vision_transformer import find_vision_transformer
from qcompiler.session import Feeds
from tests.equivalence import largest_error, ops_of

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
FEEDS: list[Feeds] = [
    {"pixel_values": np.random.default_rng(seed).standard_normal((2, 3, 32, 32)).astype(np.float32)}
    for seed in range(4)
]


@dataclass(frozen=True)
class Expected:
    """What a person counts: norms that layers read, others, attentions, integer kernels on onnxruntime."""

    norms: int
    others: int
    attentions: int
    kernels: int
    looks: str


NETS: dict[str, tuple[dict[str, Any], Expected]] = {
    # a block has two norms, one attention, four linears and two products; besides them patches and head
    "vit": ({}, Expected(5, 0, 2, 14, "65 tokens, patches of 4x4, a class token")),
    "deit": ({"tokens": 2}, Expected(5, 0, 2, 15, "66 tokens, patches of 4x4, 2 tokens of its own")),
    "pooled": ({"tokens": 0, "layer_scale": True, "fused": True}, Expected(5, 0, 2, 14, "64 tokens, patches of 4x4")),
    "resized": ({"table": 6}, Expected(5, 0, 2, 14, "65 tokens, patches of 4x4, a class token")),
    "hybrid": ({"stem": True}, Expected(5, 0, 2, 15, "65 tokens, a stem of 2 convolutions, a class token")),
    # the first norm writes the residual stream; a merging of patches has a norm and a linear
    "swin": ({"layer_scale": True}, Expected(10, 1, 4, 27, "64 tokens in windows of 16, patches of 4x4")),
}


def exported(name: str, exporter: str, folder: Path) -> Path:
    from qcompiler.torch_export import export
    from tests.vision_nets import Swin, VisionTransformer

    torch.manual_seed(0)
    given, _ = NETS[name]
    module = (Swin if name == "swin" else VisionTransformer)(**given).eval()
    export(module, {"pixel_values": (2, 3, 32, 32)}, folder / "m.onnx", exporter=exporter, check=False)
    return folder / "m.onnx"


@pytest.mark.parametrize("exporter", ["torchscript", pytest.param("dynamo", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", list(NETS))
@pytest.mark.filterwarnings("ignore")
def test_everything_is_known_and_integer(name: str, exporter: str, tmp_path: Path) -> None:
    file, expected = exported(name, exporter, tmp_path), NETS[name][1]
    model, _ = canonical_form(file, "ort-cpu")
    found = find_sites(model)
    assert found.count(Kind.NORM) == expected.norms
    assert [item.kind for item in found.refused].count(Kind.NORM) == expected.others
    roles = Counter(role_of(node) for node in model.graph if form_of(node) is Form.ATTENTION)
    assert roles[Role.QK] == roles[Role.SOFTMAX] == roles[Role.PV] == expected.attentions
    assert "Resize" not in ops_of(model)  # a table of positions for a fixed size is a constant
    assert ops_of(model).count("Mul") == roles[Role.SCALE]  # LayerScale went into the layers
    looks = find_vision_transformer(model)
    assert looks is not None and str(looks).endswith(expected.looks)

    random = np.random.default_rng(1)
    norms = [site for site in found.sites if site.kind is Kind.NORM]
    drawn = {site.name: ShiftScale(random.standard_normal(site.sources), random.uniform(0.5, 2, site.sources))
             for site in norms}  # fmt: skip
    changed = model.clone()
    assert len(FoldShiftScale(drawn).run(changed).matched) == expected.norms
    assert largest_error(model, changed, FEEDS[0]) < 2e-5

    host = qcompiler.compile(file, target="ort-cpu", calibration=FEEDS, float_share=0.0)
    facts = host.facts["model"]
    assert (facts["integer_kernels"], facts["float_kernels"], facts["leftovers"]) == (expected.kernels, 0, [])
    assert not host.plan.floats and host.verification["model"].outputs[0].sqnr > 25


@pytest.mark.parametrize("name", ["vit", "swin"])
@pytest.mark.filterwarnings("ignore")
def test_attention_for_orin_is_as_fused_kernels_take_it(name: str, tmp_path: Path) -> None:
    file, expected = exported(name, "torchscript", tmp_path), NETS[name][1]
    board = qcompiler.compile(file, target="orin", calibration=FEEDS, float_share=0.0, build_check="off", verify=False)
    facts = board.facts["model"]
    assert facts["integer_nodes"] == expected.kernels
    assert facts["attention"]["fit"] == {"int8": expected.attentions}
    assert not [item for item in board.diagnostics if item.code == "QC529"]
