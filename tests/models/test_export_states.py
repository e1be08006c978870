"""Scan, chunks and steps of one module agree, also where the steps go on from what the Scan left."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("torch", reason="the extra `torch` is not installed")
import torch

from models.export_states import WAYS, export_states
from qcompiler.reading import load_model
from qcompiler.session import Arrays, Session

LENGTH, SPLIT = 70, 37  # two chunks of 64, none of them full


def mamba() -> Any:
    from models.nets.mamba import Mamba, MambaConfig

    return Mamba(MambaConfig(vocab_size=50, d_model=16, n_layer=1, dt_rank=2, d_state=4))


def mamba2() -> Any:
    from models.nets.mamba2 import Mamba2, Mamba2Config

    return Mamba2(Mamba2Config(vocab_size=50, d_model=16, n_layer=1, d_state=8, head_dim=8))


@pytest.mark.parametrize("make", [mamba, pytest.param(mamba2, marks=pytest.mark.slow)])
def test_three_ways_agree(make: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = make()
    results = export_states(module, tmp_path, ("sequence",))
    results |= export_states(module, tmp_path, ("chunked", "step"), exporter="torchscript")  # several times faster
    assert [results[way].exporter for way in WAYS] == ["dynamo", "torchscript", "torchscript"]
    loops = {way: Counter(node.op_type for node in onnx.load(tmp_path / f"{way}.onnx").graph.node) for way in WAYS}
    assert [loops[way]["Scan"] + loops[way]["Loop"] for way in WAYS] == [1, 0, 0]
    sessions = {way: Session(load_model(tmp_path / f"{way}.onnx"), threads=1) for way in WAYS}
    ids = np.random.default_rng(0).integers(0, 50, (3, LENGTH))
    whole = {way: sessions[way].run({"input_ids": ids}) for way in ("sequence", "chunked")}
    agree(whole["sequence"], whole["chunked"])
    got = sessions["sequence"].run({"input_ids": ids[:, :SPLIT]})
    for t in range(SPLIT, LENGTH):
        states = {name.replace("present", "past"): array for name, array in got.items() if name != "logits"}
        got = sessions["step"].run({"input_ids": ids[:, t : t + 1], **states})
        np.testing.assert_allclose(got["logits"][:, 0], whole["sequence"]["logits"][:, t], atol=1e-4)
    agree({**got, "logits": got["logits"][:, 0]}, {**whole["sequence"], "logits": whole["sequence"]["logits"][:, -1]})


def agree(first: Arrays, second: Arrays) -> None:
    assert set(first) == {"logits", "present_conv_state.0", "present_ssm_state.0"} == set(second)
    for name, array in first.items():
        np.testing.assert_allclose(array, second[name], atol=1e-4, err_msg=name)
