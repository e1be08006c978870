"""GGUF weights and the exported decoder, on a model of two layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.language import CacheShape, feeds

SHAPE = CacheShape(layers=2, kv_heads=2, head_dim=8)
VOCABULARY = 34000  # the exporter folds the Transpose of a tied embedding of fewer than 2^20 elements
FACTS = {"context_length": 64, "embedding_length": 32, "block_count": 2, "feed_forward_length": 64,
         "head_count": 4, "head_count_kv": 2, "rope_freq_base": 1000.0, "vocab_size": VOCABULARY}  # fmt: skip


def write_gguf(file: Path) -> dict[str, np.ndarray]:
    """A LLaMA of two layers in llama.cpp's order of rows; its tensors as they are in the file."""
    gguf = pytest.importorskip("gguf", reason="needs the extra 'models'")
    writer = gguf.GGUFWriter(str(file), "llama")
    for name, value in FACTS.items():
        getattr(writer, f"add_{name}")(value)
    random = np.random.default_rng(3)
    tensors = {"token_embd.weight": (VOCABULARY, 32), "output_norm.weight": (32,)}
    for i in range(2):
        tensors |= {f"blk.{i}.attn_norm.weight": (32,), f"blk.{i}.ffn_norm.weight": (32,)}
        tensors |= {f"blk.{i}.attn_{p}.weight": (rows, 32) for p, rows in (("q", 32), ("k", 16), ("v", 16))}
        tensors |= {f"blk.{i}.attn_output.weight": (32, 32), f"blk.{i}.ffn_down.weight": (32, 64)}
        tensors |= {f"blk.{i}.ffn_{p}.weight": (64, 32) for p in ("gate", "up")}
    arrays = {name: random.normal(0, 0.2, shape).astype(np.float32) for name, shape in tensors.items()}
    for name, array in arrays.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return arrays


def test_rows_of_queries_and_keys_are_put_back(tmp_path: Path) -> None:
    arrays = write_gguf(tmp_path / "a.gguf")
    from models import gguf_file

    facts, state = gguf_file.read(tmp_path / "a.gguf")
    assert facts["llama.block_count"] == 2 and len(state) == len(arrays)
    stored, ours = arrays["blk.1.attn_k.weight"], state["layers.1.self_attn.k_proj.weight"]
    # llama.cpp rotates rows 2 j and 2 j + 1 of a head of 8 together; here rows j and j + 4.
    for head in range(2):
        for j in range(4):
            for part in range(2):
                assert np.array_equal(ours[8 * head + 4 * part + j], stored[8 * head + 2 * j + part])
    assert np.array_equal(state["layers.0.mlp.down_proj.weight"], arrays["blk.0.ffn_down.weight"])
    assert np.array_equal(state["embed_tokens.weight"], arrays["token_embd.weight"])


@pytest.mark.slow
def test_one_graph_serves_prefill_and_decoding(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra 'models'")
    write_gguf(tmp_path / "a.gguf")
    import onnx

    from models.session import runner
    from models.smollm2_export import decoder, export

    export(tmp_path / "a.gguf", tmp_path / "model.onnx", SHAPE)
    run, net = runner(tmp_path / "model.onnx"), decoder(tmp_path / "a.gguf")
    ids = np.random.default_rng(0).integers(0, VOCABULARY, 9)
    with torch.no_grad():
        expected, _ = net(torch.from_numpy(ids)[None])
    whole = run(feeds(ids, SHAPE.empty()))
    np.testing.assert_allclose(whole["logits"], expected.numpy(), atol=1e-5)
    past, found = SHAPE.empty(), []
    for part in (ids[:1], ids[1:6], ids[6:7], ids[7:]):
        outputs = run(feeds(part, past))
        past = SHAPE.taken(outputs)
        found.append(outputs["logits"])
    np.testing.assert_allclose(np.concatenate(found, axis=1), expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(past["past_key_values.1.key"], whole["present.1.key"], atol=1e-5)

    graph = onnx.load(str(tmp_path / "model.onnx"), load_external_data=False).graph
    assert [value.name for value in graph.input][3:5] == ["past_key_values.0.key", "past_key_values.0.value"]
    tied = [tensor for tensor in graph.initializer if sorted(tensor.dims) == [32, VOCABULARY]]
    assert len(tied) == 1, "the tied embedding is stored once"
    assert not any(node.metadata_props for node in graph.node), "no paths of this machine"
