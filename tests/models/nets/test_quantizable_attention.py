"""Clipped softmax and gates in ViT and decoder: off they are plain attention to the bit, on they do what they say."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from models.nets.attention import AttentionOptions, GateKind, HeadGate, attend, block_diagonal, probabilities
from models.nets.decoder import Decoder, DecoderConfig
from models.nets.vit import ViT, ViTConfig

VIT = ViTConfig(hidden_size=32, mlp_size=64, num_layers=2, num_heads=4)
DECODER = DecoderConfig(vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
CLIPPED = AttentionOptions(clip=True, gamma=-0.03)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_off_is_plain_attention_to_the_bit() -> None:
    q, k, v = random(3, 2, 4, 10, 8)
    plain = torch.softmax((q @ k.transpose(-1, -2)) * (1 / math.sqrt(8)), dim=-1) @ v
    assert torch.equal(attend(q, k, v, None, AttentionOptions()), plain)
    mask = torch.ones(10, 10).tril().bool()
    masked = ((q @ k.transpose(-1, -2)) * (1 / math.sqrt(8))).masked_fill(~mask, torch.finfo(torch.float32).min)
    assert torch.equal(attend(q, k, v, mask, AttentionOptions()), torch.softmax(masked, dim=-1) @ v)


@pytest.mark.parametrize("model", [ViT(VIT), Decoder(DECODER)], ids=["vit", "decoder"])
def test_flags_add_no_weights_unless_on(model: nn.Module) -> None:
    assert not [name for name in model.state_dict() if "gate." in name]


def test_clipped_softmax_has_exact_zeros_and_ones() -> None:
    p = probabilities(torch.tensor([[20.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, -2.0]]), CLIPPED)
    assert p[0].tolist() == [1.0, 0.0, 0.0, 0.0]
    threshold = 0.03 / 1.03
    softmax = torch.softmax(torch.tensor([1.0, 1.0, 1.0, -2.0]), dim=-1)
    assert softmax[3] < threshold and p[1, 3] == 0.0
    torch.testing.assert_close(p[1, :3], 1.03 * softmax[:3] - 0.03)


def test_masked_keys_stay_masked_when_clipped() -> None:
    q, k, v = random(3, 1, 1, 6, 4)
    mask = torch.ones(6, 6).tril().bool()
    out = attend(q, k, v, mask, CLIPPED)
    changed = v.clone()
    changed[:, :, 5] += 100.0
    assert torch.equal(out[:, :, :5], attend(q, k, changed, mask, CLIPPED)[:, :, :5])


def test_half_precision_scores_are_clipped_in_single() -> None:
    scores = random(4, 64).half()
    expected = probabilities(scores.float(), CLIPPED).half()
    assert torch.equal(probabilities(scores, CLIPPED), expected)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_gate_is_each_heads_own_function(kind: GateKind) -> None:
    torch.manual_seed(0)
    gate = HeadGate(32, 4, AttentionOptions(gate=kind))
    with torch.no_grad():
        gate.weight.normal_()
    x = random(2, 5, 32)
    found = gate(x)
    for head in range(4):
        part = x[..., head * 8 : head * 8 + 8]
        if kind == "mlp":
            part = torch.relu(part @ gate.hidden_weight[head].T + gate.hidden_bias[head * 2 : head * 2 + 2])
        expected = torch.sigmoid(part @ gate.weight[head, 0] + gate.bias[head])
        torch.testing.assert_close(found[..., head], expected)


def test_gate_opens_as_told() -> None:
    gate = HeadGate(32, 4, AttentionOptions(gate="linear", gate_open=0.25))
    torch.testing.assert_close(gate(torch.zeros(1, 1, 32)), torch.full((1, 1, 4), 0.25))


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_closed_gates_silence_the_attention_of_the_vit(kind: GateKind) -> None:
    torch.manual_seed(0)
    model = ViT(replace(VIT, attention=AttentionOptions(gate=kind))).eval()
    attention = model.layers[0].attention
    x = random(2, 65, 32)
    with torch.no_grad():
        opened = attention(x)
        attention.gate.bias.fill_(-100.0)
        closed = attention(x)
    assert (opened - attention.o_proj.bias).abs().max() > 1e-4
    torch.testing.assert_close(closed, attention.o_proj.bias.expand_as(closed))


def test_block_diagonal() -> None:
    blocks = torch.arange(8.0).reshape(2, 2, 2)
    assert torch.equal(block_diagonal(blocks), torch.block_diag(blocks[0], blocks[1]))


@pytest.mark.parametrize("bad", [{"gamma": 0.1}, {"eta": 0.5}, {"gate_open": 1.0}])
def test_options_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"gamma|gate_open"):
        AttentionOptions(**bad)  # type: ignore[arg-type]


def test_vit_classifies_from_the_class_token() -> None:
    model = ViT(VIT).eval()
    assert model(random(3, 3, 32, 32)).shape == (3, 10)
    assert 4.5e6 < sum(parameter.numel() for parameter in ViT().parameters()) < 6e6
