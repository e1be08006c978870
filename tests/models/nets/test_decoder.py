"""The decoder: cached decoding is prefill, padding does not count, heads share keys as configured."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.nets.attention import AttentionOptions
from models.nets.decoder import Decoder, DecoderConfig, rotary, rotate

CONFIG = DecoderConfig(
    vocab_size=50,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
)


def decoder(options: AttentionOptions | None = None) -> Decoder:
    torch.manual_seed(0)
    made = Decoder(replace(CONFIG, attention=options or AttentionOptions())).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() == 2:
                parameter.mul_(10)
    return made


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(0, 50, (2, 20), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "options", [AttentionOptions(), AttentionOptions(clip=True, gamma=-0.02), AttentionOptions(gate="linear")]
)
def test_cached_decoding_equals_prefill(options: AttentionOptions, ids: Tensor) -> None:
    model = decoder(options)
    with torch.no_grad():
        expected, present = model(ids)
        logits, past = model(ids[:, :9])
        rows = [logits]
        for start, end in ((9, 13), *((t, t + 1) for t in range(13, 20))):
            logits, past = model(ids[:, start:end], past)
            rows.append(logits)
    torch.testing.assert_close(torch.cat(rows, 1), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(past, present, atol=1e-4, rtol=1e-4)
    assert past[0][0].shape == (2, 2, 20, 8)
    assert expected.std() > 0.1


def test_left_padding_does_not_count(ids: Tensor) -> None:
    model = decoder()
    mask = torch.ones(2, 23, dtype=torch.int64)
    mask[:, :3] = 0
    padded = torch.cat([torch.zeros(2, 3, dtype=torch.int64), ids], dim=1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        expected, _ = model(ids)
        found, _ = model(padded, attention_mask=mask, position_ids=positions)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found[:, 3:], expected, atol=1e-4, rtol=1e-4)


def test_grouped_heads_equal_repeated_keys_and_values(ids: Tensor) -> None:
    model = decoder()
    full = Decoder(replace(CONFIG, num_key_value_heads=4)).eval()
    state = model.state_dict()
    for name in state:
        if name.endswith(("k_proj.weight", "v_proj.weight")):
            state[name] = state[name].reshape(2, 8, 32).repeat_interleave(2, dim=0).reshape(32, 32)
    full.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(full(ids)[0], model(ids)[0], atol=1e-4, rtol=1e-4)


def test_rotation_depends_on_the_distance_alone() -> None:
    q, k = torch.randn(2, 1, 1, 1, 8, generator=torch.Generator().manual_seed(0))

    def product(i: int, j: int) -> Tensor:
        left = rotate(q, *rotary(torch.tensor([[i]]), 8, 10000.0))
        return (left * rotate(k, *rotary(torch.tensor([[j]]), 8, 10000.0))).sum()

    torch.testing.assert_close(product(3, 1), product(103, 101), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(rotate(q, *rotary(torch.tensor([[0]]), 8, 10000.0)), q)
    assert (product(3, 1) - product(3, 2)).abs() > 1e-3
