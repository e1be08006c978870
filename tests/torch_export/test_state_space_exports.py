"""State-space models as torch's exporters write them reach one Scan a layer."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the extra `torch` is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F

from qcompiler import CompileOptions, compile_model
from qcompiler.passes.sites.explain import canonical_form

SIZES: dict[str, Any] = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2}
ATTENTION: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48}
STEPS = 21
"""No whole number of chunks of 16."""


class Logits(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Any:
        return self.model(input_ids=input_ids, use_cache=False).logits


def write(module: nn.Module, example: Tensor, path: Path, exporter: str, length: bool = False) -> Path:
    """The exporter's own file, without this package's export."""
    module = module.eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "torchscript":
            torch.onnx.export(module, (example,), path, dynamo=False, opset_version=18, input_names=["x"])
        else:
            free: Any = ({1: torch.export.Dim("steps", min=2, max=4096)},) if length else None
            torch.onnx.export(module, (example,), path, dynamo=True, verbose=False, external_data=False,
                              input_names=["x"], dynamic_shapes=free)  # fmt: skip
    return path


def check(path: Path, scans: int) -> None:
    """Rewritten, recognised with all roles, proven, nothing undone."""
    model, runs = canonical_form(path, "ort-cpu")
    by_name = {run.name: run.outcome for run in runs}
    assert len(by_name["recognise-recurrences"].matched) == scans, by_name["recognise-recurrences"].skipped
    assert sum(node.op_type == "Scan" for node in model.graph) == scans
    result = compile_model(path, CompileOptions(target="ort-cpu", method="mse"))
    assert not [run.name for run in result.runs if run.undone]
    assert all(item.holds for item in result.certificates)


def mamba() -> Any:
    return transformers.MambaForCausalLM(transformers.MambaConfig(**SIZES, state_size=4))


def mamba2() -> Any:
    sizes: dict[str, Any] = {"num_heads": 4, "head_dim": 16, "n_groups": 2, "state_size": 16, "chunk_size": 16}
    return transformers.Mamba2ForCausalLM(transformers.Mamba2Config(**SIZES, **sizes))


def jamba() -> Any:
    config = transformers.JambaConfig(
        **SIZES, **ATTENTION, num_experts=2, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=100,
        expert_layer_offset=99, mamba_d_state=4, use_mamba_kernels=False,
    )  # fmt: skip
    return transformers.JambaForCausalLM(config)


def bamba() -> Any:
    config = transformers.BambaConfig(
        **SIZES, **ATTENTION, attn_layer_indices=[1], mamba_n_heads=4, mamba_d_head=16, mamba_d_state=16,
        mamba_n_groups=1, mamba_chunk_size=16,
    )  # fmt: skip
    return transformers.BambaForCausalLM(config)


@pytest.mark.parametrize(
    ("make", "exporter", "scans", "length"),
    [
        (mamba, "torchscript", 2, False),
        pytest.param(mamba, "dynamo", 2, False, marks=pytest.mark.slow),
        (mamba2, "dynamo", 2, True),
        pytest.param(mamba2, "dynamo", 2, False, marks=pytest.mark.slow),
        pytest.param(jamba, "dynamo", 1, False, marks=pytest.mark.slow),
        pytest.param(bamba, "dynamo", 1, True, marks=pytest.mark.slow),
    ],
)
def test_hugging_face(make: Any, exporter: str, scans: int, length: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    check(write(Logits(make()), torch.randint(0, 50, (2, STEPS)), tmp_path / "m.onnx", exporter, length), scans)


def doubling(a: Tensor, h: Tensor) -> Tensor:
    """h[t] = a[t] h[t-1] + b[t] in log2(T) rounds over axis 1."""
    shift = 1
    while shift < STEPS:
        h = h + a * F.pad(h[:, :-shift], (0, 0, 0, 0, shift, 0))
        a = a * F.pad(a[:, :-shift], (0, 0, 0, 0, shift, 0))
        shift *= 2
    return h


def tree(a: Tensor, h: Tensor) -> Tensor:
    """The same in place: sums up a binary tree, and down again."""
    whole = 32
    a, h = (F.pad(item, (0, 0, 0, 0, 0, whole - STEPS)).clone() for item in (a, h))
    steps = [1 << power for power in range(5)]
    for down, step in [(False, step) for step in steps] + [(True, step) for step in steps[-2::-1]]:
        right = slice(3 * step - 1 if down else 2 * step - 1, None, 2 * step)
        left = slice(2 * step - 1, whole - step, 2 * step) if down else slice(step - 1, None, 2 * step)
        h[:, right] = h[:, right] + a[:, right] * h[:, left]
        a[:, right] = a[:, right] * a[:, left]
    return h[:, :STEPS]


def loop(a: Tensor, h: Tensor) -> Tensor:
    state, rows = torch.zeros_like(h[:, 0]), []
    for step in range(STEPS):
        state = a[:, step] * state + h[:, step]
        rows.append(state)
    return torch.stack(rows, 1)


class Both(nn.Module):
    """Forward and flipped scans over the columns of an image, as Vision Mamba has them."""

    def __init__(self, scan: Any, channels: int = 16, states: int = 4) -> None:
        super().__init__()
        self.scan, self.states = scan, states
        self.patches = nn.Conv2d(3, channels, (8, 1), (8, 1))
        self.project = nn.ModuleList(nn.Linear(channels, channels + 2 * states) for _ in range(2))
        self.rates = nn.Parameter(-torch.rand(channels, states) - 0.1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        return self.read(x, self.project[0]) + self.read(x.flip(1), self.project[1]).flip(1)

    def read(self, x: Tensor, project: nn.Module) -> Tensor:
        dt, b, c = project(x).split([x.shape[2], self.states, self.states], -1)
        dt = F.softplus(dt).unsqueeze(-1)
        h = self.scan(torch.exp(dt * self.rates), dt * b.unsqueeze(2) * x.unsqueeze(-1))
        return (h @ c.unsqueeze(-1)).squeeze(-1) + x


@pytest.mark.parametrize(("scan", "exporter"), [
    (doubling, "torchscript"), (loop, "torchscript"), pytest.param(tree, "dynamo", marks=pytest.mark.slow),
])  # fmt: skip
def test_images_in_both_directions(scan: Any, exporter: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    check(write(Both(scan), torch.randn(1, 3, 8, STEPS), tmp_path / "m.onnx", exporter), 2)
