"""Vision transformers are told by their structure; the recipe takes nothing that the user named."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import onnx_ir as ir
import pytest

import qcompiler
from qcompiler.calibration.data import input_specs, open_source
from qcompiler.options import CompileOptions
from qcompiler.passes.sites.recipe import Recipe, choose_recipe
from qcompiler.passes.sites.vision_transformer import find_vision_transformer
from qcompiler.precision import Precision, Precisions
from qcompiler.registry import find_target
from tests.architectures import WIDTH, bert, canonical, llama, vit
from tests.building import build
from tests.passes.equalize.test_decide import planted

FEW = Precisions(Precision(6, 6))


def test_a_vit_is_described() -> None:
    found = find_vision_transformer(canonical(vit(3, embedded=True)))
    assert found is not None
    assert (found.blocks, found.heads, found.head_size, found.tokens) == (3, 4, 4, 5)
    assert (found.window, found.convolutions, found.patch, found.added_tokens) == (None, 1, (4, 4), 1)
    assert str(found) == "3 attentions, 4 heads of 4, 5 tokens, patches of 4x4, a class token"


@pytest.mark.parametrize("build_other", [vit, bert, llama])
def test_what_takes_no_pictures_is_none(build_other: Callable[[int], ir.Model]) -> None:
    assert find_vision_transformer(canonical(build_other(1))) is None


def test_a_convolutional_net_is_none() -> None:
    weights = {"w": np.ones((4, 3, 3, 3), np.float32), "g": np.ones(4, np.float32), "c": np.zeros(4, np.float32)}
    text = """m (float[N, 3, 8, 8] x) => (float y) {
        a = Conv(x, w) b = Transpose<perm = [0, 2, 3, 1]>(a) y = LayerNormalization<axis = -1>(b, g, c) }"""
    assert find_vision_transformer(canonical(build(text, 17, **weights))) is None


def test_the_recipe_folds_norms_below_8_bits_only_and_leaves_words_of_the_user() -> None:
    model, options = canonical(vit(2, embedded=True)), CompileOptions()
    assert options.equalize == "recipe"
    few = recipe(model, options, FEW)
    assert few.equalize == "bounded_fold" and few.facts["architecture"] == "vision transformer"
    assert [item.code for item in few.diagnostics] == ["QC206"] and "bounded_fold" in few.diagnostics[0].message
    assert recipe(model, options, Precisions()).equalize == "none"
    assert recipe(model, options, Precisions(Precision(4, 16))).equalize == "none"
    every = {str(node.name) for node in model.graph}
    assert recipe(model, options, FEW, every).equalize == "none"
    for word in ("none", "smooth"):
        assert recipe(model, replace(options, equalize=word), FEW).equalize == word
    for other in (canonical(vit(2)), canonical(bert(2))):
        found = recipe(other, options, FEW, inputs={"x": (1, 6, WIDTH)})
        assert found.equalize == "none" and not found.diagnostics and "architecture" not in found.facts


def test_large_channels_take_the_place_of_the_fold() -> None:
    found = recipe(planted(canonical(vit(2, embedded=True))), CompileOptions(threads=1), FEW)
    assert found.equalize == "auto"
    assert [item.code for item in found.diagnostics] == ["QC206", "QC209"]
    assert "bounded_fold" not in found.diagnostics[0].message
    assert found.facts["blocks"] == 2 and found.facts["equalize"] == "auto" and found.facts["norms"]["large"] == 5


def recipe(
    model: ir.Model,
    options: CompileOptions,
    precisions: Precisions,
    float_nodes: Collection[str] = (),
    inputs: Mapping[str, tuple[int, ...]] = MappingProxyType({"x": (1, 3, 8, 8)}),
) -> Recipe:
    random = np.random.default_rng(8)
    feeds = [
        {name: random.standard_normal(shape).astype(np.float32) for name, shape in inputs.items()} for _ in range(6)
    ]
    source = open_source(feeds, input_specs(model))
    return choose_recipe(model, find_target("ort-cpu"), source, options, precisions, float_nodes)


def test_a_compile_reports_what_it_looks_like() -> None:
    feeds = [{"x": np.random.default_rng(seed).standard_normal((1, 3, 8, 8)).astype(np.float32)} for seed in range(4)]
    result = qcompiler.compile(vit(1, embedded=True), target="ort-cpu", calibration=feeds, bits="w4a4", verify=False)
    facts = result.facts["plan"]
    assert facts["recipe"]["blocks"] == 1 and facts["recipe"]["equalize"] == facts["equalize"]["method"]
    assert any("looks like a vision transformer" in item.message for item in result.diagnostics)
