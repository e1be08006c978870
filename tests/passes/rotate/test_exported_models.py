"""Sites of nets as torch's two exporters write them are what a person counts, and their rotation keeps the function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qcompiler.passes.rotate.rotations import KINDS, PASSES, found_sites
from qcompiler.reading import load_model
from tests.architectures import canonical
from tests.equivalence import largest_error, random_feeds

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
LAYERS = 2


def decoder() -> Any:
    """A LLaMA-style decoder with grouped queries and a cache."""
    from models.nets.decoder import Decoder, DecoderConfig

    return Decoder(DecoderConfig(50, 32, 96, LAYERS, 4, 2))


def without_cache() -> Any:
    """The same, logits alone."""

    class Logits(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = decoder()

        def forward(self, input_ids: Any) -> Any:
            return self.net(input_ids)[0]

    return Logits()


def vit() -> Any:
    """Pre-LN, with patches, a class token and positions."""
    from models.nets.vit import ViT, ViTConfig

    return ViT(ViTConfig(hidden_size=48, mlp_size=96, num_layers=LAYERS, num_heads=4))


@pytest.mark.parametrize("exporter", ["torchscript", pytest.param("dynamo", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("decoder", {"residual": 1, "down": LAYERS, "scores": LAYERS}),  # values go through the cache
        ("without_cache", {"residual": 1, "heads": LAYERS, "down": LAYERS, "scores": LAYERS}),
        ("vit", {"residual": 1, "heads": LAYERS, "down": LAYERS, "scores": LAYERS}),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_sites_and_function(name: str, expected: dict[str, int], exporter: str, tmp_path: Path) -> None:
    from qcompiler.torch_export import cached_inputs, export

    torch.manual_seed(0)
    module = {"decoder": decoder, "without_cache": without_cache, "vit": vit}[name]().eval()
    inputs: Any = {"pixel_values": (2, 3, 32, 32)} if name == "vit" else {"input_ids": torch.arange(14).reshape(2, 7)}
    inputs = cached_inputs(module) if name == "decoder" else inputs
    file = tmp_path / "m.onnx"
    export(module, inputs, file, exporter=exporter, check=False)
    source = canonical(load_model(file), 20)
    assert {kind: len(sites) for kind, sites in found_sites(source).items()} == expected
    result = source.clone()
    for kind in KINDS:
        PASSES[kind]().run(result)
    sizes = {"total_sequence_length": 7, "past_sequence_length": 4, "sequence_length": 3, "batch_size": 1}
    assert largest_error(source, result, random_feeds(source, sizes)) < 2e-5
