"""One session in which the quantization of each node can be switched and every scale can be set, run by run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from statistics import fmean

import numpy as np
import onnx_ir as ir

from qcompiler.graph import FreshNames, make_node
from qcompiler.passes.quant.insert_qdq import InsertQdq
from qcompiler.passes.quant.select_sites import source_of
from qcompiler.passes.quant.switched_weights import switch_weights
from qcompiler.passes.softmax.insert_lookups import InsertLookups, indexes
from qcompiler.plan import QuantPlan
from qcompiler.session import Arrays, Feeds, Session
from qcompiler.state_names import next_values

NO_NOISE = 1e-12
"""Noise over signal that counts as none beside samples or outputs that have some: 120 dB."""
STATES = 0.25
"""What carried states count beside results, which show most of their error within a call already."""


class SwitchedModel:
    """A float model with a plan, each node of which is quantized or not from run to run.

    input -> Where(switch of the node, DequantizeLinear(QuantizeLinear(input, scale), scale), input)

    Activations only, unless `weights` is set: weights stay float and constant, so that the session holds and packs them
    once. At 8 bits their noise adds to that of the activations, is smaller, and does not depend on scales or rules.

    Args:
        model: Normalized float model; left as it is.
        feeds: The samples that every measurement runs on.
        weights: Round a node's weights too where it is quantized: twice the room for weights, and slower.
        prepare: Adds further inputs to the graph with the switches, and gives their contents for the float function.
    """

    def __init__(
        self,
        model: ir.Model,
        plan: QuantPlan,
        feeds: Sequence[Feeds],
        *,
        threads: int = 0,
        weights: bool = False,
        prepare: Callable[[ir.Model], Arrays] = lambda switched: {},
    ) -> None:
        switched, self._switches, self._scales = _with_switches(model, plan)
        self.graph = switched
        """With the inputs that `feed` fills."""
        inputs, outputs = ([str(value.name) for value in ends] for ends in (model.graph.inputs, model.graph.outputs))
        self.states = frozenset(next_values(inputs, outputs).values())
        """Outputs that are carried from call to call."""
        self._float = self._given = prepare(switched)
        judge_scores(switched.graph)
        if weights:
            switch_weights(switched, plan, self._switches)
        shapes = _add_shapes(switched, self._switches)
        self._session = Session(switched, threads=threads)
        self._feeds = feeds
        self._plan_scales = {tensor: np.asarray(quant.scale) for tensor, quant in plan.tensors.items()}
        self._references: dict[int, Arrays] = {}
        first = self._reference(0)
        self.costs = {
            node: _multiply_adds(weight, *(first.pop(name) for name in names))
            for node, (weight, names) in shapes.items()
        }
        """Multiply-adds of each node on the first sample."""

    @property
    def nodes(self) -> Collection[str]:
        """Every node that can be quantized."""
        return self._switches.keys()

    @property
    def samples(self) -> int:
        """How many samples there are to measure on."""
        return len(self._feeds)

    def given(self, inputs: Feeds) -> SwitchedModel:
        """The same session with other contents of the inputs that `prepare` added."""
        changed = copy(self)
        changed._given = {**self._float, **inputs}
        return changed

    def noise(
        self, quantized: Collection[str], scales: Mapping[str, float] | None = None, *, samples: int | None = None
    ) -> float:
        """Noise over signal power with these nodes quantized: geometric mean over float outputs and samples.

        Args:
            scales: Tensor to scale, in place of the plan's.
            samples: Only the first so many; None for all.
        """
        count = len(self._feeds) if samples is None else min(samples, len(self._feeds))
        # the geometric mean: one sample that tips over must not outvote all others
        return _geometric_mean([self.sample_noise(index, quantized, scales) for index in range(count)])

    def sample_noise(
        self, index: int, quantized: Collection[str], scales: Mapping[str, float] | None = None
    ) -> float:
        """The same on one sample."""
        return output_noise(*self.outputs(index, quantized, scales), self.states)

    def outputs(
        self, index: int, quantized: Collection[str], scales: Mapping[str, float] | None = None
    ) -> tuple[Arrays, Arrays]:
        """Of the float model and with these nodes quantized, on one sample."""
        return self._reference(index), self._run(self._feeds[index], quantized, scales or {})

    def feed(self, sample: Feeds, quantized: Collection[str], scales: Mapping[str, float]) -> Feeds:
        """The sample with all that is switched and set."""
        states = {name: np.asarray(node in quantized) for node, name in self._switches.items()}
        numbers = {
            name: np.asarray(scales.get(tensor, self._plan_scales[tensor]), np.float32)
            for tensor, name in self._scales.items()
        }
        return {**self._given, **sample, **states, **numbers}

    def _reference(self, index: int) -> Arrays:
        if index not in self._references:
            self._references[index] = self.given({})._run(self._feeds[index], (), {})
        return self._references[index]

    def _run(self, sample: Feeds, quantized: Collection[str], scales: Mapping[str, float]) -> Arrays:
        return self._session.run(self.feed(sample, quantized, scales))


def decibels(noise: float) -> float:
    """SQNR in dB of a noise over signal power."""
    return float("inf") if noise == 0 else -10 * float(np.log10(noise))


def output_noise(reference: Arrays, outputs: Arrays, states: Collection[str] = ()) -> float:
    """Noise over signal power of one sample: geometric mean over float outputs.

    Args:
        states: Outputs that are the next values of inputs. Their plain mean counts as `STATES` of the whole: the caches
            of all layers must not outvote the scores, nor those of a few layers in float stand for all.
    """
    noises = {
        name: _noise(wanted, outputs[name])
        for name, wanted in reference.items()
        if wanted.dtype.kind == "f" and wanted.size  # scores and features; indices follow from them
    }
    results = _geometric_mean([noise for name, noise in noises.items() if name not in states])
    carried = [noise for name, noise in noises.items() if name in states]
    if not carried or len(carried) == len(noises):
        return _geometric_mean(carried) if carried else results
    both = np.maximum([results, fmean(carried)], NO_NOISE)
    return float(np.exp(np.log(both) @ (1 - STATES, STATES))) if results or any(carried) else 0.0


def _geometric_mean(ratios: Sequence[float]) -> float:
    """With a floor for ratios that are zero; zero where all are."""
    return float(np.exp(np.mean(np.log(np.maximum(ratios, NO_NOISE))))) if any(ratios) else 0.0


def _noise(
    wanted: np.ndarray[tuple[int, ...], np.dtype[np.floating]],
    found: np.ndarray[tuple[int, ...], np.dtype[np.floating]],
) -> float:
    if wanted.shape != found.shape:  # a data-dependent shape changed
        return 1.0
    one = wanted.astype(np.float64)
    error = np.square(one - found).sum()
    signal = np.square(one).sum()
    return float(error / signal) if signal and np.isfinite(error) else float(error > 0)


def _with_switches(model: ir.Model, plan: QuantPlan) -> tuple[ir.Model, dict[str, str], dict[str, str]]:
    """The graph, its switch inputs by node and its scale inputs by tensor."""
    copy = model.clone()
    graph = copy.graph
    before = {node.name: tuple(node.inputs) for node in graph if node.name in plan.nodes}
    InsertQdq(plan).run(copy)
    InsertLookups(plan).run(copy)
    names = FreshNames(copy)
    outputs = {node.name: node.outputs[0] for node in graph if node.name in plan.outputs}
    switches: dict[str, str] = {}
    for node in list(graph):
        if node.name not in before:
            continue
        switch = _add_input(graph, names(f"{node.name}/switch"), ir.DataType.BOOL)
        switches[str(node.name)] = str(switch.name)
        for index, (old, new) in enumerate(zip(before[node.name], node.inputs, strict=True)):
            if old is new or old is None or new is None:
                continue
            output = names(f"{node.name}/input_{index}")
            where = make_node("Where", [switch, new, old], output=output, dtype=new.dtype, shape=new.shape)
            graph.insert_before(node, where)
            node.replace_input_with(index, where.outputs[0])
        if node.name in outputs:
            _switch_output(graph, outputs[node.name], switch, names)
    return copy, switches, _free_scales(graph, plan, names)


def judge_scores(graph: ir.Graph) -> None:
    """Where an output is a Softmax or Sigmoid of scores, the scores stand in for it.

    Scores move evenly with the noise; probabilities hide most of it and tip over where two classes are close, so that a
    few samples would decide what is measured.
    """
    for index, output in enumerate(graph.outputs):
        maker = source_of(output).producer()
        if maker is not None and maker.op_type in ("Softmax", "LogSoftmax", "Sigmoid") and maker.domain == "":
            scores = maker.inputs[0]
            if scores is not None and not scores.is_graph_output():
                graph.outputs[index] = scores


def _switch_output(graph: ir.Graph, output: ir.Value, switch: ir.Value, names: FreshNames) -> None:
    """output -> Q -> DQ -> readers   becomes   Where(switch, DQ(Q(output)), output) -> readers."""
    quantize = next((use.node for use in output.uses() if use.node.op_type == "QuantizeLinear"), None)
    if quantize is None:
        return
    real = quantize.outputs[0].consumers()[0].outputs[0]
    readers = tuple(real.uses())
    where = make_node(
        "Where", [switch, real, output], output=names(f"{output.name}/switched"), dtype=real.dtype, shape=real.shape
    )
    graph.insert_after(quantize.outputs[0].consumers()[0], where)
    for use in readers:
        use.node.replace_input_with(use.idx, where.outputs[0])


def _free_scales(graph: ir.Graph, plan: QuantPlan, names: FreshNames) -> dict[str, str]:
    scales: dict[str, str] = {}
    for node in graph:
        value = node.inputs[0] if node.op_type == "QuantizeLinear" else None
        if value is None or value.name not in plan.tensors or indexes(node):  # a table's levels have one scale
            continue
        scale = _add_input(graph, names(f"{value.name}/scale"), ir.DataType.FLOAT)
        node.replace_input_with(1, scale)
        codes = node.outputs[0]
        for reader in codes.consumers():
            if reader.op_type == "Clip":  # a grid narrower than its container
                codes = reader.outputs[0]
        for use in codes.uses():
            use.node.replace_input_with(1, scale)
        scales[value.name] = str(scale.name)
    return scales


def _add_input(graph: ir.Graph, name: str, dtype: ir.DataType) -> ir.Value:
    value = ir.Value(name=name, shape=ir.Shape([]), type=ir.TensorType(dtype))
    graph.inputs.append(value)
    return value


def _add_shapes(model: ir.Model, nodes: Mapping[str, str]) -> dict[str, tuple[tuple[int, ...], tuple[str, str]]]:
    """Outputs that give the run-time shapes of each node's first input and output; with the shape of its weight."""
    names = FreshNames(model)
    found: dict[str, tuple[tuple[int, ...], tuple[str, str]]] = {}
    for node in list(model.graph):
        if node.name not in nodes:
            continue
        added = []
        for end in (node.inputs[0], node.outputs[0]):
            shape = make_node("Shape", [end], output=names(f"{node.name}/shape"), dtype=ir.DataType.INT64, shape=None)
            model.graph.insert_after(node, shape)
            model.graph.outputs.append(shape.outputs[0])
            added.append(str(shape.outputs[0].name))
        weight = node.inputs[1]
        sizes = weight.shape.numpy() if node.op_type.startswith("Conv") and weight is not None and weight.shape else ()
        found[str(node.name)] = (tuple(int(size) for size in sizes), (added[0], added[1]))
    return found


def _multiply_adds(
    weight: tuple[int, ...],
    first: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    output: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
) -> int:
    """Products summed: the output's elements times those summed for each (of a Conv, its weights per channel)."""
    return int(np.prod(output)) * int(np.prod(weight[1:]) if weight else first[-1])
