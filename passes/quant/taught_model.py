"""A quantized model beside the float model, with the mean of every layer's output per channel within reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.calibration.inputs import input_specs
from qcompiler.calibration.masks import MaskedAxes, find_mask, masked_axes, padding, symbolic_shape
from qcompiler.graph import FreshNames, add_initializer, make_node
from qcompiler.passes.quant.bias_places import BiasPlace, bias_places
from qcompiler.passes.quant.insert_qdq import InsertQdq
from qcompiler.passes.quant.planned_weights import round_weights_in_place
from qcompiler.passes.quant.switched_model import judge_scores, output_noise
from qcompiler.passes.softmax.insert_lookups import InsertLookups
from qcompiler.plan import QuantPlan
from qcompiler.session import Arrays, Feeds, Session

Corrections = Mapping[str, npt.NDArray[np.floating[Any]]]
"""Layer to what is added to each channel of its output."""


class TaughtModel:
    """Each planned layer's output y becomes y + shift, one number per channel.

    Taught, the shift is mean(float y) - mean(y) over the positions of the sample: each layer then reads inputs that are
    quantized but whose producers were corrected, as if layers were corrected one by one in forward order, in a single
    run. Otherwise the shift is what the caller gives.

    Weights stand as the float numbers that their codes mean, so that no kernel of the runtime is at work here.

    Args:
        model: Normalized float model; left as it is.
        feeds: Samples that will be run, one row each; padding that was not cut from them has no weight in the means.
    """

    def __init__(self, model: ir.Model, plan: QuantPlan, feeds: Sequence[Feeds], *, threads: int = 0) -> None:
        self.places, self.skipped = bias_places(model, plan.weights)
        self._mask = find_mask(input_specs(model))
        self._axes = _padded_axes(model, self.places, feeds, threads)
        teacher, student = model.clone(), model.clone()
        judge_scores(teacher.graph)
        judge_scores(student.graph)
        self._means = _return_means(teacher, bias_places(teacher, plan.weights)[0], self._axes)
        round_weights_in_place(student, plan)
        InsertQdq(replace(plan, weights={})).run(student)
        InsertLookups(plan).run(student)
        self._shifts = _add_shifts(student, bias_places(student, plan.weights)[0], self._axes)
        self._outputs = len(model.graph.outputs)
        self._teacher = Session(teacher, threads=threads)
        self._student = Session(student, threads=threads, optimize=False)

    def teach(self, feed: Feeds) -> dict[str, npt.NDArray[np.float32]]:
        """The shift that each layer needs on this sample, those before it being corrected."""
        weights = self._weights(feed)
        wanted = self._teacher.run({**feed, **weights})
        means = {f"{layer}/wanted": wanted[name] for layer, name in self._means.items()}
        found = self._student.run({**feed, **weights, **self._given({}), **means, "taught": np.asarray(True)})
        return {layer: found[name] for layer, name in self._shifts.items()}

    def noise(self, feed: Feeds, corrections: Corrections) -> float:
        """Noise over signal power of the outputs with these corrections."""
        return self.noises(feed, [corrections])[0]

    def noises(self, feed: Feeds, tried: Sequence[Corrections]) -> list[float]:
        """The same for several, with the float model run once."""
        weights = self._weights(feed)
        wanted = self._first(self._teacher, self._teacher.run({**feed, **weights}))
        return [
            output_noise(wanted, self._first(self._student, self._student.run({**feed, **weights, **self._given(one)})))
            for one in tried
        ]

    def _given(self, corrections: Corrections) -> Arrays:
        found: Arrays = {"taught": np.asarray(False)}
        for place in self.places:
            zero = np.zeros(place.channels, np.float32)
            found[f"{place.layer}/wanted"] = zero
            found[f"{place.layer}/given"] = np.asarray(corrections.get(place.layer, zero), np.float32)
        return found

    def _first(self, session: Session, outputs: Arrays) -> Arrays:
        """The model's own outputs, by place: their names differ where a shift stands behind them."""
        return {str(index): outputs[name] for index, name in enumerate(session.output_names[: self._outputs])}

    def _weights(self, feed: Feeds) -> Arrays:
        """1 / share at real positions and 0 at padding, for each layout that occurs."""
        found: Arrays = {}
        real = padding(feed, self._mask)
        for layout, (dims, axis) in _layouts(self._axes).items():
            assert self._mask is not None
            mask = feed[self._mask.name] if real is None else real
            row = np.asarray(mask, np.float32).reshape(-1)
            form = [1] * dims
            form[axis] = -1
            found[layout] = (row / row.mean()).reshape(form)
        return found


Layout = tuple[int, int]
"""Rank of an output and the axis of its sequence."""


def _layouts(axes: Mapping[str, Layout]) -> dict[str, Layout]:
    return {f"weight_{dims}_{axis}": (dims, axis) for dims, axis in sorted(set(axes.values()))}


def _padded_axes(
    model: ir.Model, places: Sequence[BiasPlace], feeds: Sequence[Feeds], threads: int
) -> dict[str, Layout]:
    """Of each layer whose output has positions of padding on these samples; empty where nothing is padded."""
    mask = find_mask(input_specs(model))
    padded = next((feed for feed in feeds if padding(feed, mask) is not None), None)
    if mask is None or padded is None:
        return {}
    outputs = Session(model, [str(place.output.name) for place in places], threads=threads).run_sample(padded)
    sizes = padded[mask.name].shape
    found: dict[str, Layout] = {}
    for place in places:
        shape = outputs[str(place.output.name)].shape
        axes: MaskedAxes | None = masked_axes(symbolic_shape(place.output), shape, mask, (sizes[0], sizes[1]))
        if axes is not None and axes.heads == 1 and place.axis not in axes.sequence:
            found[place.layer] = (len(shape), 0 if axes.flat else axes.sequence[0])
    return found


def _input(graph: ir.Graph, name: str, dims: int, dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
    known = next((value for value in graph.inputs if value.name == name), None)
    if known is not None:
        return known
    value = ir.Value(name=name, shape=ir.Shape([None] * dims), type=ir.TensorType(dtype))
    graph.inputs.append(value)
    return value


def _mean(
    graph: ir.Graph, place: BiasPlace, axes: Mapping[str, Layout], names: FreshNames
) -> tuple[list[ir.Node], ir.Value]:
    """Nodes that average the layer's output over all axes but its channels, and what they give."""
    current, made = place.output, []
    dims = len(place.output.shape or ())
    if place.layer in axes:
        layout = axes[place.layer]
        weight = _input(graph, f"weight_{layout[0]}_{layout[1]}", dims)
        made.append(make_node("Mul", [current, weight], output=names(f"{place.layer}/real"),
                              dtype=ir.DataType.FLOAT, shape=None))  # fmt: skip
        current = made[-1].outputs[0]
    others = np.array([axis for axis in range(dims) if axis != place.axis], np.int64)
    constant = add_initializer(graph, others, names(f"{place.layer}/axes"))
    made.append(make_node("ReduceMean", [current, constant], {"keepdims": 0}, output=names(f"{place.layer}/mean"),
                          dtype=ir.DataType.FLOAT, shape=ir.Shape([place.channels])))  # fmt: skip
    return made, made[-1].outputs[0]


def _return_means(model: ir.Model, places: Sequence[BiasPlace], axes: Mapping[str, Layout]) -> dict[str, str]:
    names, found = FreshNames(model), {}
    for place in places:
        nodes, mean = _mean(model.graph, place, axes, names)
        model.graph.insert_after(place.node, nodes)
        model.graph.outputs.append(mean)
        found[place.layer] = str(mean.name)
    return found


def _add_shifts(model: ir.Model, places: Sequence[BiasPlace], axes: Mapping[str, Layout]) -> dict[str, str]:
    graph, names, found = model.graph, FreshNames(model), {}
    taught = _input(graph, "taught", 0, ir.DataType.BOOL)
    for place in places:
        output, dims = place.output, len(place.output.shape or ())
        shape = ir.Shape([place.channels])
        nodes, mean = _mean(graph, place, axes, names)
        wanted, given = (_input(graph, f"{place.layer}/{word}", 1) for word in ("wanted", "given"))
        missing = make_node("Sub", [wanted, mean], output=names(f"{place.layer}/missing"),
                            dtype=ir.DataType.FLOAT, shape=shape)  # fmt: skip
        shift = make_node("Where", [taught, missing.outputs[0], given], output=names(f"{place.layer}/shift"),
                          dtype=ir.DataType.FLOAT, shape=shape)  # fmt: skip
        form = add_initializer(graph, np.array([-1, *[1] * (dims - 1 - place.axis)]), names(f"{place.layer}/form"))
        shaped = make_node("Reshape", [shift.outputs[0], form], output=names(f"{place.layer}/shaped"),
                           dtype=ir.DataType.FLOAT, shape=None)  # fmt: skip
        moved = make_node("Add", [output, shaped.outputs[0]], output=names(f"{place.layer}/moved"),
                          dtype=output.dtype, shape=output.shape)  # fmt: skip
        output.replace_all_uses_with(moved.outputs[0], replace_graph_outputs=True)
        moved.replace_input_with(0, output)
        nodes[0].replace_input_with(0, output)
        graph.insert_after(place.node, [*nodes, missing, shift, shaped, moved])
        graph.outputs.append(shift.outputs[0])
        found[place.layer] = str(shift.outputs[0].name)
    return found
