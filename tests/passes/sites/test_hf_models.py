"""Sites of Hugging Face's architectures are what a person counts from the configuration; each rewrite is proven."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from qcompiler.passes.rotate.rotations import KINDS, PASSES, found_sites
from qcompiler.passes.sites.explain import canonical_form
from qcompiler.passes.sites.find import find_sites
from qcompiler.passes.sites.records import Site
from qcompiler.passes.split_units.hidden_layers import hidden_layers
from tests.proving import proven, shifted_and_scaled

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytest.importorskip("transformers")


def count(norms: int, attentions: int, streams: int, heads: int = 0, **mlps: int) -> dict[str, int]:
    """Norms that layers read, attentions, residual streams without a norm's output in them, hidden layers by kind.

    Args:
        heads: Hidden layers of classification heads behind a Tanh, which is no site of other kinds.
    """
    hidden = {name.replace("_", "-"): number for name, number in mlps.items()}
    total = sum(hidden.values())
    found = {"norm": norms, "value-output": attentions, "residual": streams, "heads": attentions, "down": total,
             "scores": attentions, "hidden": total + heads, **hidden}  # fmt: skip
    return {name: number for name, number in found.items() if number}


# Two layers each. Post-LN: one norm behind the embedding and two a layer, no stream.
EXPECTED: dict[str, dict[str, int]] = {
    "bert": count(5, 2, 0, 1, activation=2),
    "distilbert": count(5, 2, 0, activation=2, relu_mlp=1),  # the head has a ReLU
    "albert": count(5, 2, 1, 1, activation=2),  # the embedding of 16 channels is a stream of its own
    "deberta": count(5, 2, 0, activation=3),  # the pooler has a GELU
    "modernbert": count(6, 2, 0, up_down=2),  # embedding, 1 + 2, last, head; the first one writes the stream
    "gpt2": count(5, 2, 1, activation=2),
    "opt": count(5, 2, 1, relu_mlp=2),
    "opt post-LN": count(4, 2, 0, relu_mlp=2),  # no norm behind the embedding
    "bloom": count(5, 2, 0, activation=2),  # a norm behind the embedding writes the stream
    "pythia": count(5, 2, 1, activation=2),
    "phi": count(3, 2, 1, activation=2),  # attention and MLP share a norm
    "llama": count(5, 2, 1, up_down=2),
    "qwen2": count(5, 2, 1, up_down=2),
    "qwen3": count(5, 2, 1, up_down=2),  # norms of queries and keys are read by no layer
    "gemma": count(5, 2, 1, up_down=2),
    "gemma2": count(5, 2, 0, up_down=2),  # norms behind attention and MLP write the stream
    "nemotron": count(5, 2, 1, activation=2),  # squared ReLU
    "t5": count(12, 6, 2, relu_mlp=4),  # 2 + 2 + 1 of the encoder, 3 + 3 + 1 of the decoder
    "flan-t5": count(12, 6, 2, up_down=4),
    "bart": count(12, 6, 0, activation=4),
    "vit": count(5, 2, 1, activation=2),
    "beit": count(5, 2, 1, activation=2),
    "dinov2": count(5, 2, 1, activation=2),  # the head reads class token and mean of patches side by side
    "dinov2 gated": count(5, 2, 1, up_down=2),
    "swin": count(10, 4, 1, activation=4),  # 8 + merging + last; the stream of the second stage
}


@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.filterwarnings("ignore")
def test_counts_and_certificates(name: str, exporter: str, tmp_path: Path) -> None:
    from tests.hf_nets import made

    module, inputs = made(name)
    file = tmp_path / "m.onnx"
    lengths = {key: {0: "batch"} | ({} if key == "pixel_values" else {1: f"{key}_length"}) for key in inputs}
    given: dict[str, Any] = {"input_names": list(inputs), "output_names": ["y"], "verbose": False}
    if exporter == "dynamo":
        dims = tuple(dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in lengths.values())
        given |= {"dynamo": True, "dynamic_shapes": (dims,), "external_data": False}
    else:
        given |= {"dynamo": False, "dynamic_axes": lengths, "opset_version": 17}
    torch.onnx.export(module, tuple(inputs.values()), str(file), **given)

    model, _ = canonical_form(file, "ort-cpu")
    sites = find_sites(model).sites
    rotations = {str(kind): len(names) for kind, names in found_sites(model).items()}
    hidden = sum(isinstance(item, Site) for item in hidden_layers(model))
    kinds = Counter(site.kind.value for site in sites)
    assert dict(kinds) | dict(rotations) | {"hidden": hidden} == EXPECTED[name]
    feeds = [{key: inputs[key].numpy() for value in model.graph.inputs if (key := str(value.name))}]
    proven(model.clone(), shifted_and_scaled(model), len(sites), feeds)
    for kind in KINDS:
        if number := rotations.get(kind, 0):
            model = proven(model, PASSES[kind](), number, feeds)
