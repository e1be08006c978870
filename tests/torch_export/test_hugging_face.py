"""Modules of transformers, from their configuration with random weights, through the same call."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("torch", reason="the extra `torch` is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")
import torch
import transformers

import qcompiler
from qcompiler.reading import load_model
from qcompiler.session import Session
from qcompiler.torch_export import ExportResult, cached_inputs

SIZES: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 50,
}  # fmt: skip


def check(result: ExportResult, inputs: str, outputs: str) -> None:
    assert " ".join(item.name for item in result.inputs) == inputs
    assert " ".join(item.name for item in result.outputs) == outputs
    assert all(row.difference is not None and row.difference < 1e-5 for row in result.parity), str(result)
    load_model(result.path)


def test_bert(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = transformers.BertModel(transformers.BertConfig(**SIZES))
    inputs = {"input_ids": (2, 6), "attention_mask": (2, 6)}
    result = qcompiler.export(module, inputs, tmp_path / "m.onnx", exporter="torchscript")
    check(result, "input_ids attention_mask", "last_hidden_state pooler_output")
    assert str(result.outputs[0]) == "last_hidden_state float32[batch_size, sequence_length, 32]"
    assert "encoder.layer.0.attention.self.query.weight" in load_model(result.path).graph.initializers


def test_vit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {key: value for key, value in SIZES.items() if key != "vocab_size"}
    module = transformers.ViTForImageClassification(transformers.ViTConfig(**sizes, image_size=16, patch_size=4))
    result = qcompiler.export(module, {"pixel_values": (1, 3, 16, 16)}, tmp_path / "m.onnx", exporter="torchscript")
    check(result, "pixel_values", "logits")


def llama() -> Any:
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, num_key_value_heads=2))


def test_llama_without_cache_returns_no_cache(tmp_path: Path) -> None:
    inputs = {"input_ids": torch.tensor([[1, 2, 3], [4, 5, 6]]), "attention_mask": torch.ones(2, 3, dtype=torch.int64)}
    result = qcompiler.export(llama(), inputs, tmp_path / "m.onnx", exporter="torchscript")
    check(result, "input_ids attention_mask", "logits")


@pytest.mark.parametrize("exporter", ["torchscript", pytest.param("dynamo", marks=pytest.mark.slow)])
def test_llama_with_cache_serves_prefill_and_decoding(exporter: str, tmp_path: Path) -> None:
    module = llama()
    result = qcompiler.export(module, cached_inputs(module), tmp_path / "m.onnx", exporter=exporter)
    past = "past_key_values.0.key past_key_values.0.value"
    check(result, f"input_ids attention_mask position_ids {past}", "logits present.0.key present.0.value")
    assert result.outputs[1].shape == ("batch_size", 2, "total_sequence_length", 8)
    ids = np.random.default_rng(0).integers(0, 50, (2, 9))
    expected = module(torch.from_numpy(ids)).logits.detach().numpy()
    session = Session(load_model(result.path), threads=1)
    state = {name: np.zeros((2, 2, 0, 8), np.float32) for name in past.split()}
    for start, end in ((0, 5), (5, 6), (6, 9)):  # prefill, one token, several
        feeds: dict[str, Any] = {
            "input_ids": ids[:, start:end], "attention_mask": np.ones((2, end), np.int64),
            "position_ids": np.tile(np.arange(start, end), (2, 1)), **state,
        }  # fmt: skip
        got = session.run(feeds)
        np.testing.assert_allclose(got["logits"], expected[:, start:end], atol=1e-5)
        state = {f"past_key_values.0.{word}": got[f"present.0.{word}"] for word in ("key", "value")}


def mamba() -> Any:
    torch.manual_seed(0)
    config = {key: value for key, value in SIZES.items() if "hidden" in key or "vocab" in key}
    return transformers.MambaForCausalLM(transformers.MambaConfig(**config, state_size=4))


def test_mamba_reads_any_length_by_a_scan_and_goes_on_by_steps(tmp_path: Path) -> None:
    from transformers.models.mamba import modeling_mamba

    before = modeling_mamba.mamba_selective_scan
    module, ids = mamba(), np.random.default_rng(0).integers(0, 50, (2, 8))
    prefill = qcompiler.export(module, {"input_ids": (2, 6), "use_cache": True}, tmp_path / "prefill.onnx")
    states = ["conv_state.0", "ssm_state.0"]
    check(prefill, "input_ids", " ".join(["logits", *(f"present_{name}" for name in states)]))
    assert modeling_mamba.mamba_selective_scan is before, "what was replaced is put back"
    assert Counter(node.op_type for node in onnx.load(prefill.path).graph.node)["Scan"] == 1
    assert any("Scan" in note for note in prefill.notes)
    step = qcompiler.export(module, cached_inputs(module, length=1), tmp_path / "step.onnx", exporter="torchscript")
    after = " ".join(["logits", *(f"present_{name}" for name in states)])
    check(step, " ".join(["input_ids", *(f"past_{name}" for name in states)]), after)
    expected = module(torch.from_numpy(ids), use_cache=False).logits.detach().numpy()
    got = Session(load_model(prefill.path), threads=1).run({"input_ids": ids[:, :3]})
    np.testing.assert_allclose(got["logits"], expected[:, :3], atol=1e-5)
    session = Session(load_model(step.path), threads=1)
    for t in range(3, 8):
        got = session.run(
            {"input_ids": ids[:, t : t + 1], **{f"past_{name}": got[f"present_{name}"] for name in states}}
        )
        np.testing.assert_allclose(got["logits"][:, 0], expected[:, t], atol=1e-5)
