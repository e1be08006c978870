"""Modules with clipped softmax and gated heads as ONNX: the same as torch within 1e-5, and not the same as without."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn

from models.nets.attention import AttentionOptions, GateKind
from models.nets.decoder import Decoder, DecoderConfig
from models.nets.vit import ViT, ViTConfig
from qcompiler.torch_export import cached_inputs, export

VIT = ViTConfig(image_size=16, hidden_size=32, mlp_size=64, num_layers=1, num_heads=4)
DECODER = DecoderConfig(vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4)
PLAIN = AttentionOptions()


def vit(options: AttentionOptions) -> nn.Module:
    return ViT(replace(VIT, attention=options))


def decoder(options: AttentionOptions) -> nn.Module:
    return Decoder(replace(DECODER, attention=options))


def example(module: nn.Module) -> dict[str, Any]:
    torch.manual_seed(1)
    return cached_inputs(module) if isinstance(module, Decoder) else {"pixel_values": torch.randn(2, 3, 16, 16)}


@pytest.mark.parametrize(("make", "gate"), [(vit, "mlp"), (decoder, "linear")])
def test_clipped_and_gated_attention_exports(make: Any, gate: GateKind, tmp_path: Path) -> None:
    options = AttentionOptions(clip=True, gamma=-0.03, eta=1.003, gate=gate, gate_open=0.3)
    torch.manual_seed(0)
    module = make(options).eval()
    with torch.no_grad():  # scores far apart: with the small ones of a fresh module, every probability is clipped to 0
        for parameter in module.parameters():
            parameter.normal_(std=0.3)
    plain = make(PLAIN).eval()
    plain.load_state_dict(module.state_dict(), strict=False)
    inputs = example(module)
    with torch.no_grad():
        found, without = (net(**inputs) for net in (module, plain))
    logits, other = (item if isinstance(item, torch.Tensor) else item[0] for item in (found, without))
    assert (logits - other).abs().max() > 1e-2, "the options change what is computed"

    result = export(module, inputs, tmp_path / "model.onnx", tolerance=1e-5)
    assert len(result.parity) >= 2 and max(row.difference or 0.0 for row in result.parity) <= 1e-5
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node)
    assert kinds["Clip"] == 1 and kinds["Softmax"] == 1 and kinds["Sigmoid"] >= 1
