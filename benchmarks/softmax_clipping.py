"""The clipping experiment of DopQ-ViT (arXiv:2408.03291): which end of the probabilities a model needs."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import onnx_ir as ir

import models
from models.zoo import Feeds, TestSet
from qcompiler.graph import FreshNames, add_initializer, make_node
from qcompiler.passes.softmax.probabilities import probabilities
from qcompiler.session import Session

Row = dict[str, Any]
SHARES = (0.01, 0.05, 0.1)


def first_row(feeds: Feeds) -> Feeds:
    """The first sample of a batch."""
    return {name: array[:1] for name, array in feeds.items()}


def clipping(name: str, test: TestSet) -> list[Row]:
    """The float model with the smallest or largest share of each layer's probabilities taken away.

    Thresholds are percentiles of the layer's probabilities on the first calibration sample of each batch.
    """
    from benchmarks.softmax_tables import compiled, run

    model = models.load(name)
    result = compiled(model, 0)
    places = probabilities(result.reference)[0]
    session = Session(result.reference, [place.tensor for place in places], threads=1)
    seen: dict[str, list[Any]] = {place.tensor: [] for place in places}
    for feeds in list(model.calibration())[:8]:
        arrays = session.run(first_row(feeds))
        for tensor, held in seen.items():
            held.append(arrays[tensor].reshape(-1))
    rows: list[Row] = []
    for share in SHARES:
        for what in ("smallest to 0", "largest to the percentile", "largest to 0"):
            graph = result.reference.clone()
            for tensor, held in seen.items():
                _cut(graph, tensor, np.concatenate(held), share, what)
            rows.append({"model": name, "what": what, "share": share, "scores": run(model, test, graph)[1]})
            print(name, what, share, rows[-1]["scores"], file=sys.stderr, flush=True)
    return rows


def _cut(model: ir.Model, tensor: str, values: Any, share: float, what: str) -> None:
    graph, names = model.graph, FreshNames(model)
    value = next(item for node in graph for item in node.outputs if item.name == tensor)
    edge = float(np.quantile(values, share if what.startswith("smallest") else 1 - share))
    bound = add_initializer(graph, np.asarray(edge, np.float32), names("edge"))
    zero = add_initializer(graph, np.zeros((), np.float32), names("nought"))
    uses = tuple(value.uses())
    if what == "largest to the percentile":
        made = [make_node("Min", [value, bound], output=names("cut"), dtype=value.dtype, shape=value.shape)]
    else:
        op = "Less" if what.startswith("smallest") else "Greater"
        compare = make_node(op, [value, bound], output=names("beyond"), dtype=ir.DataType.BOOL, shape=value.shape)
        where = make_node("Where", [compare.outputs[0], zero, value], output=names("cut"), dtype=value.dtype,
                          shape=value.shape)  # fmt: skip
        made = [compare, where]
    maker = value.producer()
    assert maker is not None
    graph.insert_after(maker, made)
    for use in uses:
        use.node.replace_input_with(use.idx, made[-1].outputs[0])
