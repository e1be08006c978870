"""SmolLM2 as ONNX by torch's exporter, which keeps the tied embedding as one initializer and a Transpose of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models import gguf_file
from models.language import CacheShape


def export(weights: Path, file: Path, shape: CacheShape) -> None:
    """Write `file` and its external data file.data; the graph last, so that a cut export is seen as none."""
    import onnx_ir as ir
    import torch
    from torch import nn

    net = decoder(weights)
    module: Any = nn.Module  # Any with and without torch installed, so that mypy says the same

    class WithNames(module):  # type: ignore[misc]
        """Keeps the order of inputs and outputs that the ONNX file has."""

        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, input_ids: Any, attention_mask: Any, position_ids: Any, past: list[Any]) -> Any:
            pairs = list(zip(past[0::2], past[1::2], strict=True))
            logits, present = self.net(input_ids, pairs, attention_mask, position_ids)
            return logits, *(part for pair in present for part in pair)

    past, length = 5, 3
    example = (
        torch.arange(length)[None],
        torch.ones(1, past + length, dtype=torch.int64),
        torch.arange(past, past + length)[None],
        [torch.zeros(1, shape.kv_heads, past, shape.head_dim) for _ in shape.inputs()],
    )
    batch, sequence = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("sequence", min=1, max=8192)
    before, total = torch.export.Dim("past_sequence", min=0, max=8192), torch.export.Dim("total_sequence", max=16384)
    shapes = [{0: batch, 1: sequence}, {0: batch, 1: total}, {0: batch, 1: sequence}]
    program = torch.onnx.export(
        WithNames().eval(), example, dynamo=True, opset_version=20, verbose=False,
        input_names=["input_ids", "attention_mask", "position_ids", *shape.inputs()],
        output_names=["logits", *shape.outputs()],
        dynamic_shapes=[*shapes, [{0: batch, 2: before}] * len(shape.inputs())],
    )  # fmt: skip
    model = program.model
    for node in model.graph:
        node.metadata_props.clear()  # stack traces with paths of this machine
    data, partial = f"{file.name}.data", file.with_name(f"{file.name}.partial")
    ir.save(model, partial, external_data=data)
    partial.replace(file)


def decoder(weights: Path) -> Any:
    """The torch module with the file's weights, dequantized."""
    import torch

    from models.nets.decoder import Decoder, DecoderConfig

    facts, state = gguf_file.read(weights)
    config = DecoderConfig(
        vocab_size=facts["llama.vocab_size"],
        hidden_size=facts["llama.embedding_length"],
        intermediate_size=facts["llama.feed_forward_length"],
        num_hidden_layers=facts["llama.block_count"],
        num_attention_heads=facts["llama.attention.head_count"],
        num_key_value_heads=facts["llama.attention.head_count_kv"],
        rope_theta=facts["llama.rope.freq_base"],
    )
    with torch.device("meta"):
        net = Decoder(config)
    net.load_state_dict({name: torch.from_numpy(values) for name, values in state.items()}, assign=True)
    return net.eval()
