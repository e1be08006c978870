"""What torch's two exporters write of small transformer blocks is recognised and keeps its function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qcompiler.passes.canonical.forms import Form
from qcompiler.reading import load_model
from tests.equivalence import largest_error, normalized, random_feeds
from tests.test_float_round_trip import count_sites

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")


def encoder_block() -> Any:
    """Pre-norm block: LayerNorm, attention with a mask, LayerNorm, GELU."""

    class Block(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.LayerNorm(16), torch.nn.LayerNorm(16)
            self.qkv, self.out = torch.nn.Linear(16, 48), torch.nn.Linear(16, 16)
            self.up, self.down = torch.nn.Linear(16, 32), torch.nn.Linear(32, 16)

        def forward(self, x: Any, mask: Any) -> Any:
            batch, length, _ = x.shape
            q, k, v = self.qkv(self.first(x)).reshape(batch, length, 3, 2, 8).permute(2, 0, 3, 1, 4)
            scores = q @ k.transpose(-1, -2) / 8**0.5 + mask
            mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, 16)
            x = x + self.out(mixed)
            return x + self.down(torch.nn.functional.gelu(self.up(self.second(x))))

    return Block()


def decoder_block() -> Any:
    """RMSNorm by hand, rotary embedding, scaled_dot_product_attention with grouped heads, SiLU gate."""

    class Block(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.gain = torch.nn.Parameter(torch.linspace(0.5, 1.5, 16))
            self.q, self.kv = torch.nn.Linear(16, 16, bias=False), torch.nn.Linear(16, 16, bias=False)
            self.gate, self.down = torch.nn.Linear(16, 32), torch.nn.Linear(32, 16)
            angles = torch.arange(5)[:, None] * torch.tensor([1.0, 0.1, 0.01, 0.001])[None]
            self.register_buffer("cos", torch.cat([angles, angles], -1).cos())
            self.register_buffer("sin", torch.cat([angles, angles], -1).sin())

        def norm(self, x: Any) -> Any:
            return self.gain * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))

        def rotate(self, x: Any) -> Any:
            left, right = x[..., :4], x[..., 4:]
            return x * self.cos + torch.cat([-right, left], -1) * self.sin

        def forward(self, x: Any, mask: Any) -> Any:
            h = self.norm(x)
            q = self.q(h).reshape(-1, 5, 2, 8).transpose(1, 2)
            k, v = self.kv(h).reshape(-1, 5, 2, 8).transpose(1, 2).chunk(2, dim=1)
            k, v = (item[:, :, None].expand(-1, 1, 2, 5, 8).reshape(-1, 2, 5, 8) for item in (k, v))
            mixed = torch.nn.functional.scaled_dot_product_attention(self.rotate(q), self.rotate(k), v, attn_mask=mask)
            x = x + mixed.transpose(1, 2).reshape(-1, 5, 16)
            return x + self.down(torch.nn.functional.silu(self.gate(self.norm(x))))

    return Block()


EXPECTED = {
    "encoder": {Form.LAYER_NORM: 2, Form.ATTENTION: 1, Form.GELU: 1},
    "decoder": {Form.RMS_NORM: 2, Form.ROTARY: 2, Form.ATTENTION: 1, Form.SILU: 1},
}


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("block", ["encoder", "decoder"])
@pytest.mark.filterwarnings("ignore")
def test_export(tmp_path: Path, block: str, dynamo: bool) -> None:
    torch.manual_seed(0)
    module = (encoder_block() if block == "encoder" else decoder_block()).eval()
    inputs = (torch.randn(3, 5, 16), torch.zeros(3, 1, 1, 5))
    path = tmp_path / "m.onnx"
    options: dict[str, Any] = {"input_names": ["x", "mask"], "output_names": ["y"], "verbose": False}
    if dynamo:
        batch = torch.export.Dim("batch")
        options |= {"dynamo": True, "dynamic_shapes": ({0: batch}, {0: batch}), "external_data": True}
    else:
        options |= {"dynamo": False, "dynamic_axes": {"x": {0: "batch"}, "mask": {0: "batch"}, "y": {0: "batch"}}}
        options |= {"opset_version": 14}
    torch.onnx.export(module, inputs, str(path), **options)
    source = load_model(path)
    for opset in (19, 23):
        result = normalized(source, opset, canonical=True)
        assert count_sites(result) == EXPECTED[block]
        assert largest_error(source, result, random_feeds(source, {"batch": 2})) < 1e-5
