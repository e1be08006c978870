"""Architectures of Hugging Face's transformers, two layers of 32 channels; weights, gains and biases from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
TEXT = {"vocab_size": 50, "max_position_embeddings": 32}
GROUPED = {**SIZES, **TEXT, "num_key_value_heads": 2}
PICTURE = {"image_size": 16, "patch_size": 4}
GPT = {"vocab_size": 50, "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 4}
PAIR = {"vocab_size": 50, "max_position_embeddings": 32, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64}  # fmt: skip
T5 = {"vocab_size": 50, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
      "decoder_start_token_id": 0}  # fmt: skip
DISTIL = {"vocab_size": 50, "max_position_embeddings": 32, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
OPT = {**TEXT, "hidden_size": 32, "word_embed_proj_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
       "ffn_dim": 64}  # fmt: skip
DINO = {**PICTURE, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "mlp_ratio": 2,
        "layerscale_value": 0.3}  # fmt: skip
SWIN = {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4,
        "mlp_ratio": 2.0}  # fmt: skip
DEBERTA = {**SIZES, **TEXT, "relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"],
           "norm_rel_ebd": "layer_norm", "share_att_key": True, "pooler_hidden_size": 32}  # fmt: skip


@dataclass(frozen=True)
class Net:
    """Class and configuration of a model, and what it takes: text, pair (text for both sides), picture."""

    model: str
    config: str
    options: Mapping[str, Any]
    takes: str = "text"


NETS: Mapping[str, Net] = {
    "bert": Net("BertForSequenceClassification", "BertConfig", {**SIZES, **TEXT}),
    "distilbert": Net("DistilBertForSequenceClassification", "DistilBertConfig", DISTIL),
    "albert": Net("AlbertForSequenceClassification", "AlbertConfig", {**SIZES, **TEXT, "embedding_size": 16}),
    "deberta": Net("DebertaV2ForSequenceClassification", "DebertaV2Config", DEBERTA),
    "modernbert": Net("ModernBertForSequenceClassification", "ModernBertConfig",
                      {**SIZES, **TEXT, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2}),
    "gpt2": Net("GPT2LMHeadModel", "GPT2Config", GPT),
    "opt": Net("OPTForCausalLM", "OPTConfig", OPT),
    "opt post-LN": Net("OPTForCausalLM", "OPTConfig", {**OPT, "do_layer_norm_before": False}),
    "bloom": Net("BloomForCausalLM", "BloomConfig", {"vocab_size": 50, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "pythia": Net("GPTNeoXForCausalLM", "GPTNeoXConfig", {**SIZES, **TEXT}),
    "phi": Net("PhiForCausalLM", "PhiConfig", {**SIZES, **TEXT}),
    "llama": Net("LlamaForCausalLM", "LlamaConfig", GROUPED),
    "qwen2": Net("Qwen2ForCausalLM", "Qwen2Config", GROUPED),
    "qwen3": Net("Qwen3ForCausalLM", "Qwen3Config", {**GROUPED, "head_dim": 8}),
    "gemma": Net("GemmaForCausalLM", "GemmaConfig", {**GROUPED, "head_dim": 8}),
    "gemma2": Net("Gemma2ForCausalLM", "Gemma2Config", {**GROUPED, "head_dim": 8}),
    "nemotron": Net("NemotronForCausalLM", "NemotronConfig", {**GROUPED, "pad_token_id": 0}),
    "t5": Net("T5ForConditionalGeneration", "T5Config", T5, "pair"),
    "flan-t5": Net("T5ForConditionalGeneration", "T5Config",
                   {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}, "pair"),
    "bart": Net("BartForConditionalGeneration", "BartConfig", PAIR, "pair"),
    "vit": Net("ViTForImageClassification", "ViTConfig", {**SIZES, **PICTURE}, "picture"),
    "beit": Net("BeitForImageClassification", "BeitConfig",
                {**SIZES, **PICTURE, "use_relative_position_bias": True, "layer_scale_init_value": 0.1}, "picture"),
    "dinov2": Net("Dinov2ForImageClassification", "Dinov2Config", DINO, "picture"),
    "dinov2 gated": Net("Dinov2ForImageClassification", "Dinov2Config", {**DINO, "use_swiglu_ffn": True}, "picture"),
    "swin": Net("SwinForImageClassification", "SwinConfig", SWIN, "picture"),
}  # fmt: skip


class Logits(nn.Module):
    """The first output of a model that takes these inputs."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *values: Tensor) -> Tensor:
        given = dict(zip(self.names, values, strict=True))
        cached = {"use_cache": False} if hasattr(self.model.config, "use_cache") and "pixel_values" not in given else {}
        found: Tensor = self.model(**given, **cached)[0]
        return found


def made(name: str) -> tuple[Logits, dict[str, Tensor]]:
    """The module in eval mode, and its inputs."""
    net = NETS[name]
    torch.manual_seed(0)
    config = getattr(transformers, net.config)(**net.options)
    model = getattr(transformers, net.model)._from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for each in model.parameters():
            if each.dim() == 1:
                each.copy_(each + torch.randn(each.shape) * 0.2)
            else:
                each.copy_(torch.randn(each.shape) * 0.5 / max(1, each[0].numel()) ** 0.5)
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[1, 5:] = 0
    side = config.image_size if net.takes == "picture" else 0
    inputs = {"pixel_values": torch.randn(2, 3, side, side)} if side else {
        "input_ids": torch.randint(3, 50, (2, 7)), "attention_mask": mask}  # fmt: skip
    if net.takes == "pair":
        inputs["decoder_input_ids"] = torch.randint(3, 50, (2, 5))
    return Logits(model, tuple(inputs)), inputs
