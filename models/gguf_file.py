"""A GGUF file of the LLaMA family as the weights of `models.nets.decoder.Decoder`, and its tokenizer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from models.zoo import Array

_LAYER = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
_TOP = {"token_embd": "embed_tokens", "output_norm": "norm"}


def read(file: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Metadata without the tokenizer's, and tensors dequantized to float32 under the decoder's names.

    llama.cpp stores the rows of q_proj and k_proj so that neighbours rotate together; here halves of a head do, so its
    order of rows is undone: [heads, size / 2, 2] becomes [heads, 2, size / 2].
    """
    import gguf

    reader = gguf.GGUFReader(str(file))
    facts = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("tokenizer.")}
    heads = {"attn_q": facts["llama.attention.head_count"], "attn_k": facts["llama.attention.head_count_kv"]}
    state: dict[str, Array] = {}
    for tensor in reader.tensors:
        values = np.array(gguf.quants.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        layer = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", tensor.name)
        if layer is None:
            state[f"{_TOP[tensor.name.removesuffix('.weight')]}.weight"] = values
            continue
        kind = layer.group(2)
        if kind in heads:
            rows = values.reshape(heads[kind], -1, 2, values.shape[-1])
            values = np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(values.shape)
        state[f"layers.{layer.group(1)}.{_LAYER[kind]}.weight"] = values
    return facts, state


def tokenizer(file: Path) -> Any:
    """The byte-level BPE of the metadata (a tokenizers.Tokenizer); digits stand alone, as in SmolLM."""
    import gguf
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    fields = gguf.GGUFReader(str(file)).fields
    facts = {name: fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "merges", "token_type")}
    vocabulary = {token: index for index, token in enumerate(facts["tokens"])}
    merges = [tuple(pair.split(" ")) for pair in facts["merges"]]
    found = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    digits, bytes_ = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_])
    found.decoder = decoders.ByteLevel()
    special = [t for t, kind in zip(vocabulary, facts["token_type"], strict=True) if kind == 3]
    found.add_special_tokens(special)
    return found
