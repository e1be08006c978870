"""What the forms of softmax behind the scores cost on onnxruntime: the tail of each layer alone, in turns, one thread.

Forms: float; uniform (Softmax, QuantizeLinear, integer product); table (the same with a lookup, integer form); float
table (the simulation form); LUT softmax (com.microsoft.QLinearSoftmax: a table of exponentials over 8-bit scores).
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import numpy as np
import onnx_ir as ir

import models
from qcompiler.calibration.runner import calibrate
from qcompiler.emitter import EmitContext
from qcompiler.lookup import Form, Levels, Lookup
from qcompiler.passes.quant.insert_qdq import InsertQdq
from qcompiler.passes.softmax.insert_lookups import InsertLookups
from qcompiler.pipeline import Pipeline
from qcompiler.plan import QuantPlan
from qcompiler.registry import find_target, make_emitter
from qcompiler.scheme import INT8_ACTIVATION, QuantScheme, TensorQuant
from qcompiler.session import Feeds, Session

ROUNDS, WARM = 80, 10
_TAIL = """<ir_version: 10, opset_import: ["" : 21]>
tail (float[1, {h}, {s}, {s}] s, float[1, {h}, {s}, {d}] v) => (float[1, {h}, {s}, {d}] y) {{
    p = Softmax<axis = -1>(s) [mix] y = MatMul(p, v) }}"""
_LUT = """<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>
tail (float[1, {h}, {s}, {s}] s, float[1, {h}, {s}, {d}] v) => (float[1, {h}, {s}, {d}] y)
  <float ss = {{{scale}}}, uint8 sz = {{128}}, float ps = {{0.00390625}}, uint8 pz = {{0}}, float vs = {{0.03}},
   uint8 vz = {{128}}> {{
    c = QuantizeLinear(s, ss, sz)
    p = com.microsoft.QLinearSoftmax<axis = -1, opset = 21>(c, ss, sz, ps, pz)
    w = QuantizeLinear(v, vs, vz)
    y = com.microsoft.MatMulIntegerToFloat(p, w, ps, vs, pz, vz) }}"""


def layer_costs(name: str) -> list[dict[str, Any]]:
    """One row for each layer of the model: microseconds of each form on the layer's own scores and values."""
    from benchmarks.softmax_tables import compiled
    from qcompiler.passes.softmax.probabilities import probabilities

    model = models.load(name)
    reference = compiled(model, 0).reference
    rows: list[dict[str, Any]] = []
    for place in probabilities(reference)[0]:
        node = next(item for item in reference.graph if item.name == place.layer)
        scores = str(node.inputs[0].name) if node.inputs[0] is not None else ""
        arrays = Session(reference, [scores, place.values]).run(model.timing())
        rows.append({"layer": place.layer, "shape": list(arrays[scores].shape),
                     "microseconds": tail_costs({"s": arrays[scores], "v": arrays[place.values]})})  # fmt: skip
    return rows


def tail_costs(feeds: Feeds) -> dict[str, float]:
    """Median microseconds of each form, measured in turns."""
    _, heads, length, _ = feeds["s"].shape
    sizes = {"h": heads, "s": length, "d": feeds["v"].shape[-1]}
    source = ir.from_onnx_text(_TAIL.format(**sizes))
    peak = calibrate(source, ["v"], [feeds], mask_input=None).tensors["v"].absmax
    levels = Lookup((Levels("tan", 4, 1.0, 1.8, 0.8),), 1.0)
    graphs = {
        "float": source,
        "uniform": _lowered(source, peak, None),
        "table": _lowered(source, peak, levels),
        "float table": _lowered(source, peak, Lookup(levels.heads, 1.0, "float")),
        "LUT softmax": ir.from_onnx_text(_LUT.format(**sizes, scale=float(np.abs(feeds["s"]).max() / 127))),
    }
    sessions = {form: Session(graph, threads=1) for form, graph in graphs.items()}
    taken: dict[str, list[float]] = {form: [] for form in sessions}
    for _ in range(ROUNDS):
        for form, session in sessions.items():
            start = time.perf_counter()
            session.run(feeds)
            taken[form].append(1e6 * (time.perf_counter() - start))
    return {form: round(median(values[WARM:]), 1) for form, values in taken.items()}


def _lowered(source: ir.Model, peak: float, lookup: Lookup | None) -> ir.Model:
    form: Form = "integer" if lookup is None else lookup.form
    scheme = QuantScheme(symmetric=False)
    p = TensorQuant(scheme, np.asarray(1 / 255, np.float32), np.asarray(-128, np.int8))
    v = TensorQuant(INT8_ACTIVATION, np.asarray(peak / 127, np.float32))
    tensors = {"v": v} | ({"p": p} if form == "integer" else {})
    plan = QuantPlan(tensors=tensors, nodes={"mix": (0, 1) if form == "integer" else (1,)},
                     lookups={} if lookup is None else {"p": lookup})  # fmt: skip
    model = source.clone()
    Pipeline([InsertQdq(plan), InsertLookups(plan)]).run(model)
    return make_emitter(find_target("ort-cpu")).legalize(model, EmitContext(source)).model
