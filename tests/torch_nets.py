"""Small transformers and state-space models in torch, two layers each, and what a person counts on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LAYERS = 2
_SIZES: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 50,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Net:
    """One architecture.

    Attributes:
        make: The module and its example inputs.
        sites: Where channels may be shifted and scaled, by kind.
        rotations: What can be rotated, by kind.
        edges: Readers of norms that are no layers: residuals behind a post-LN norm.
        exporters: That take it.
    """

    make: Callable[[], tuple[Any, Any]]
    sites: dict[str, int]
    rotations: dict[str, int]
    edges: int = 0
    exporters: tuple[str, ...] = ("torchscript", "dynamo")


def _texts() -> dict[str, Any]:
    import torch

    ids = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]])
    return {"input_ids": ids, "attention_mask": torch.ones(2, 5, dtype=torch.int64)}


def vit() -> tuple[Any, Any]:
    """Pre-LN, with patches, a class token and positions."""
    from models.nets.vit import ViT, ViTConfig

    return ViT(ViTConfig(hidden_size=48, mlp_size=96, num_layers=LAYERS, num_heads=4)), {"pixel_values": (2, 3, 32, 32)}


def decoder() -> tuple[Any, Any]:
    """LLaMA-style, grouped queries, the head tied to the table, a cache."""
    from models.nets.decoder import Decoder, DecoderConfig
    from qcompiler.torch_export import cached_inputs

    net = Decoder(DecoderConfig(50, 32, 96, LAYERS, 4, 2)).eval()
    return net, cached_inputs(net)


def decoder_without_cache() -> tuple[Any, Any]:
    """The same, logits alone."""
    import torch

    class Logits(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = decoder()[0]

        def forward(self, input_ids: Any) -> Any:
            return self.net(input_ids)[0]

    return Logits(), {"input_ids": torch.arange(14).reshape(2, 7)}


def mamba() -> tuple[Any, Any]:
    """RMSNorm, a gate behind the scan."""
    from models.nets.mamba import Mamba, MambaConfig

    return Mamba(MambaConfig(50, 32, LAYERS, 4, 4, 2, 4)), {"input_ids": (2, 6), "form": "scan"}


def mamba2() -> tuple[Any, Any]:
    """A second norm in each block, behind gate and scan."""
    from models.nets.mamba2 import Mamba2, Mamba2Config

    return Mamba2(Mamba2Config(50, 32, LAYERS, 8, 4, 2, 16)), {"input_ids": (2, 6), "form": "scan"}


def _hugging_face(model: str, config: str, **more: Any) -> Callable[[], tuple[Any, Any]]:
    def make() -> tuple[Any, Any]:
        import transformers

        return getattr(transformers, model)(getattr(transformers, config)(**more)), _texts()

    return make


def llama_with_cache() -> tuple[Any, Any]:
    """transformers' LLaMA: its cache goes in and out."""
    from qcompiler.torch_export import cached_inputs

    net = NETS["llama"].make()[0].eval()
    return net, cached_inputs(net)


def _encoder(*, norm_first: bool) -> Callable[[], tuple[Any, Any]]:
    def make() -> tuple[Any, Any]:
        from torch import nn

        layer = nn.TransformerEncoderLayer(
            32, 4, 48, activation="gelu" if norm_first else "relu", batch_first=True, norm_first=norm_first
        )
        last = nn.LayerNorm(32) if norm_first else None
        return nn.TransformerEncoder(layer, LAYERS, last, enable_nested_tensor=False), {"src": (2, 6, 32)}

    return make


N = LAYERS
_OPT = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": N, "ffn_dim": 48, "num_attention_heads": 4,
        "max_position_embeddings": 32, "word_embed_proj_dim": 32}  # fmt: skip
_DISTILBERT = {"vocab_size": 50, "dim": 32, "hidden_dim": 48, "n_layers": N, "n_heads": 4}
_GPT2 = {"vocab_size": 50, "n_positions": 32, "n_embd": 32, "n_layer": N, "n_head": 4, "bos_token_id": 0,
         "eos_token_id": 0}  # fmt: skip
_PRE_LN = {"norm": 2 * N + 1, "value-output": N, "activation": N}
_POST_LN = {"norm": 2 * N, "value-output": N, "activation": N}
"""The first norm stands behind the embedding, and no layer reads the last."""
_GATED = {"norm": 2 * N + 1, "value-output": N, "up-down": N}
_ALL = {"residual": 1, "heads": N, "down": N, "scores": N}
_NO_STREAM = {"heads": N, "down": N, "scores": N}
NETS: dict[str, Net] = {
    "vit": Net(vit, _PRE_LN, _ALL),
    "decoder": Net(decoder, {"norm": 2 * N + 1, "up-down": N}, {"residual": 1, "down": N, "scores": N}),
    "decoder_without_cache": Net(decoder_without_cache, _GATED, _ALL),
    "mamba": Net(mamba, {"norm": N + 1}, {"residual": 1, "gated": N}),
    "mamba2": Net(mamba2, {"norm": 2 * N + 1}, {"residual": 1, "gated": N}),
    "bert": Net(_hugging_face("BertModel", "BertConfig", **_SIZES), _POST_LN, _NO_STREAM, edges=2 * N),
    "distilbert": Net(
        _hugging_face("DistilBertModel", "DistilBertConfig", **_DISTILBERT),
        _POST_LN, _NO_STREAM, edges=2 * N,
    ),
    "gpt2": Net(_hugging_face("GPT2LMHeadModel", "GPT2Config", **_GPT2), _PRE_LN, _ALL),
    "opt": Net(
        _hugging_face("OPTForCausalLM", "OPTConfig", **_OPT),
        {"norm": 2 * N + 1, "value-output": N, "relu-mlp": N}, _ALL,
    ),
    "llama": Net(
        _hugging_face("LlamaForCausalLM", "LlamaConfig", **_SIZES, num_key_value_heads=2, tie_word_embeddings=True),
        _GATED, _ALL,
    ),
    "llama_with_cache": Net(
        llama_with_cache, {"norm": 2 * N + 1, "up-down": N}, {"residual": 1, "down": N, "scores": N}
    ),
    "qwen2": Net(_hugging_face("Qwen2ForCausalLM", "Qwen2Config", **_SIZES, num_key_value_heads=2), _GATED, _ALL),
    "gemma": Net(
        _hugging_face("GemmaForCausalLM", "GemmaConfig", **_SIZES, num_key_value_heads=2, head_dim=8), _GATED, _ALL
    ),
    # An input is the stream, and the last norm the output.
    "pre_norm": Net(
        _encoder(norm_first=True), {"norm": 2 * N, "value-output": N, "activation": N}, _NO_STREAM,
        exporters=("dynamo",),
    ),
    "post_norm": Net(
        _encoder(norm_first=False), {"norm": 2 * N - 1, "value-output": N, "relu-mlp": N}, _NO_STREAM, edges=2 * N - 1,
        exporters=("dynamo",),
    ),
}  # fmt: skip
