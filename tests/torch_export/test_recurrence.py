"""`scan`: a loop in torch, one Scan in ONNX."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest

pytest.importorskip("torch", reason="the extra `torch` is not installed")
import torch
from torch import Tensor, nn

import qcompiler
from qcompiler.torch_export import scan


class Cell(nn.Module):
    """h[t] = tanh(W h[t-1] + x[t]); the state itself is the output, and a count of steps goes along."""

    def __init__(self, size: int = 6) -> None:
        super().__init__()
        self.mix = nn.Linear(size, size)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        def body(state: tuple[Tensor, Tensor], now: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
            h = torch.tanh(self.mix(state[0]) + now)
            return (h, state[1] + 1), h

        zeros = x.new_zeros(x.shape[0], x.shape[2])
        (last, steps), hidden = scan(body, (zeros, zeros[:, :1]), x)
        return {"hidden": hidden, "last": last, "steps": steps}


def test_loop_in_torch_with_a_gradient() -> None:
    torch.manual_seed(0)
    module, x = Cell(), torch.randn(2, 5, 6)
    found, h = module(x), torch.zeros(2, 6)
    for t in range(5):
        h = torch.tanh(module.mix(h) + x[:, t])
        torch.testing.assert_close(found["hidden"][:, t], h)
    torch.testing.assert_close(found["last"], h)
    assert found["steps"].flatten().tolist() == [5, 5]
    found["last"].sum().backward()
    assert module.mix.weight.grad is not None and module.mix.weight.grad.abs().sum() > 0


def test_one_scan_for_any_batch_and_length(tmp_path: Path) -> None:
    torch.manual_seed(0)
    axes = {"x": {0: "batch", 1: "time"}}
    result = qcompiler.export(Cell(), torch.randn(1, 4, 6), tmp_path / "cell.onnx", dynamic=axes, exporter="dynamo")
    assert Counter(node.op_type for node in onnx.load(tmp_path / "cell.onnx").graph.node)["Scan"] == 1
    assert [dict(row.sizes) for row in result.parity] == [
        {"batch": 1, "time": 4}, {"batch": 2, "time": 4}, {"batch": 1, "time": 7}, {"batch": 1, "time": 1},
    ]  # fmt: skip
    assert all(row.difference is not None and row.difference < 1e-5 for row in result.parity)
    assert [str(item) for item in result.outputs] == [
        "hidden float32[batch, time, 6]", "last float32[batch, 6]", "steps float32[batch, 1]",
    ]  # fmt: skip


def test_time_may_be_any_axis_and_needs_a_step() -> None:
    x = torch.randn(3, 2, 5)
    last, y = scan(lambda s, now: (s + now, s + now), torch.zeros(3, 2), x, axis=-1)
    torch.testing.assert_close(y, x.cumsum(-1))
    torch.testing.assert_close(last, x.sum(-1))
    with pytest.raises(ValueError, match="one step"):
        scan(lambda s, now: (s, now), torch.zeros(2), torch.zeros(2, 0))
    with pytest.raises(ValueError, match="at least one tensor"):
        scan(lambda s, now: (s, now), torch.zeros(2), ())
