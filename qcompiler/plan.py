"""The plan: what is quantized how, what stays float and why. JSON that a person can edit and pass back.

Algorithms write plans; the passes that edit graphs (`insert-qdq`, `quantize-weights`) only read them. Tensors and nodes
go by name, which normalization makes unique.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx_ir as ir

from qcompiler.errors import UsageError
from qcompiler.lookup import Lookup
from qcompiler.scheme import Granularity, PerAxis, PerBlock, PerTensor, QuantScheme, TensorQuant

SCHEMA = "qcompile-plan/1"
ROUNDINGS = ("gptq", "gptq-fitted")
"""How codes of a weight may be chosen on data."""


@dataclass(frozen=True, slots=True)
class StateQuant:
    """A state that goes from call to call as codes.

    Attributes:
        next: The output of the graph that is its next value, in the same codes.
        quant: int8, one scale, no zero point.
        dither: Rounded up as often as the fraction says, not to the nearest code (`qcompiler/dither.py`).
    """

    next: str
    quant: TensorQuant
    dither: bool = False


@dataclass(slots=True)
class QuantPlan:
    """Scales by tensor, and per node which inputs read quantized values.

    Attributes:
        tensors: Activation name to its quantization; one scale whoever reads it.
        weights: Node name to input index to the quantization of that constant input.
        nodes: Node name to the indices of the activation inputs that read quantized values.
        outputs: Node name to the quantization of its output, for all its readers, which read it as float.
        biases: Node name to what is added to its bias, by output channel (bias correction).
        rounding: Node name to how codes of its weight were chosen on data (of `ROUNDINGS`); absent: the nearest.
        codes: Node name to these codes, in the shape of the weight. Not in the JSON: made anew from the data.
        floats: Node or tensor name to the reason why it stays float.
        groups: Tensors that share one scale (inputs of a Concat).
        equalize: Site to "shift" and "scale" by channel, of the rewrites that the scales presuppose.
        units: Hidden layer to its units that are computed apart; before all other rewrites on data.
        lookups: Activation name to the levels that its values are looked up as, in front of its own grid.
        rotate: Kind of rotation to its "sites" and the "seed" of its signs, and to "draws" of sites with a "seed", and
            a "shuffle" or an "order" of channels, of their own; made before `equalize`.
        states: Input of the graph to the codes in which that state is carried from call to call.
        notes: Facts of the planner for the report, by tensor: method, clipping threshold, ...
    """

    tensors: dict[str, TensorQuant] = field(default_factory=dict)
    weights: dict[str, dict[int, TensorQuant]] = field(default_factory=dict)
    nodes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    outputs: dict[str, TensorQuant] = field(default_factory=dict)
    biases: dict[str, list[float]] = field(default_factory=dict)
    rounding: dict[str, str] = field(default_factory=dict)
    codes: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict, repr=False)
    floats: dict[str, str] = field(default_factory=dict)
    groups: list[tuple[str, ...]] = field(default_factory=list)
    equalize: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    rotate: dict[str, dict[str, Any]] = field(default_factory=dict)
    units: dict[str, list[int]] = field(default_factory=dict)
    lookups: dict[str, Lookup] = field(default_factory=dict)
    states: dict[str, StateQuant] = field(default_factory=dict)
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def why_nothing(self) -> str:
        """Why no node is quantized: up to three of the reasons."""
        reasons = sorted(set(self.floats.values()))
        return f"because: {'; '.join(reasons[:3])}" if reasons else "the model has no MatMul, Gemm or Conv"

    def to_json(self) -> bytes:
        """Indented JSON with sorted keys; scales as shortest decimals that give the same float32 back."""
        nodes: dict[str, Any] = {name: {"activations": list(inputs)} for name, inputs in self.nodes.items()}
        for name, weights in self.weights.items():
            entry = nodes.setdefault(name, {"activations": []})
            entry["weights"] = {str(index): _quant_to_json(quant) for index, quant in weights.items()}
        for name, quant in self.outputs.items():
            nodes.setdefault(name, {"activations": []})["output"] = _quant_to_json(quant)
        for name, numbers in self.biases.items():
            entry = nodes.setdefault(name, {"activations": []})
            entry["bias_correction"] = _decimals(np.asarray(numbers, np.float32))
        for name, how in self.rounding.items():
            nodes[name]["rounding"] = how
        document = {
            "schema": SCHEMA,
            "tensors": {name: _quant_to_json(quant) for name, quant in self.tensors.items()},
            "nodes": nodes,
            "float": self.floats,
            "groups": [list(group) for group in self.groups],
        }
        if self.equalize:
            document["equalize"] = self.equalize
        if self.rotate:
            document["rotate"] = self.rotate
        if self.units:
            document["units"] = self.units
        if self.lookups:
            document["lookups"] = {name: item.to_json() for name, item in self.lookups.items()}
        if self.states:
            document["states"] = {
                name: {"next": item.next, "dither": item.dither, **_quant_to_json(item.quant)}
                for name, item in self.states.items()
            }
        return msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=1) + b"\n"

    @classmethod
    def from_json(cls, data: bytes, where: str = "plan") -> QuantPlan:
        """Read a plan.

        Raises:
            UsageError: Not JSON, another schema, an unknown type, a scale that is not positive and finite, or not of
                the shape of its granularity.
        """
        try:
            document = msgspec.json.decode(data)
            if document["schema"] != SCHEMA:
                raise UsageError(f"the plan's schema is {document['schema']!r}, expected {SCHEMA!r}", where=where)
            plan = cls(
                tensors={
                    name: _quant_from_json(item, f"{where}: tensors.{name}")
                    for name, item in document["tensors"].items()
                },
                floats={str(key): str(reason) for key, reason in document.get("float", {}).items()},
                groups=[tuple(group) for group in document.get("groups", [])],
                equalize={str(key): _equalize_from_json(item) for key, item in document.get("equalize", {}).items()},
                rotate={str(key): _rotate_from_json(item) for key, item in document.get("rotate", {}).items()},
                units={
                    str(key): [int(unit) for unit in item] for key, item in document.get("units", {}).items()
                },
                lookups={str(key): Lookup.from_json(item) for key, item in document.get("lookups", {}).items()},
                states={
                    str(key): StateQuant(
                        str(item["next"]), _quant_from_json(item, f"{where}: states.{key}"),
                        bool(item.get("dither", False)),
                    )
                    for key, item in document.get("states", {}).items()
                },
            )
            for name, entry in document["nodes"].items():
                plan.nodes[name] = tuple(int(index) for index in entry.get("activations", ()))
                weights = {
                    int(index): _quant_from_json(item, f"{where}: nodes.{name}.weights.{index}")
                    for index, item in entry.get("weights", {}).items()
                }
                if weights:
                    plan.weights[name] = weights
                if "bias_correction" in entry:
                    plan.biases[name] = _finite(entry["bias_correction"], f"{where}: nodes.{name}.bias_correction")
                if "rounding" in entry:
                    plan.rounding[name] = _rounding(entry["rounding"], name in plan.weights, f"{where}: nodes.{name}")
                if "output" in entry:
                    plan.outputs[name] = _quant_from_json(entry["output"], f"{where}: nodes.{name}.output")
        except UsageError:
            raise
        except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(
                f"not a plan: {error}", where=where, hint="take a plan.json that qcompile wrote"
            ) from error
        return plan

    @classmethod
    def load(cls, path: Path) -> QuantPlan:
        """Read a plan file; errors as `from_json`, and UsageError where the file can't be read."""
        try:
            return cls.from_json(path.read_bytes(), str(path))
        except OSError as error:
            raise UsageError(f"cannot read the plan: {error.strerror}", where=str(path)) from error


def _equalize_from_json(entry: dict[str, Any]) -> dict[str, list[float]]:
    found = {key: [float(number) for number in entry[key]] for key in ("shift", "scale")}
    if len(found["shift"]) != len(found["scale"]) or not all(0 < number < float("inf") for number in found["scale"]):
        raise ValueError("a rewrite has a shift and a positive scale for each channel")
    return found


def _finite(numbers: Any, where: str) -> list[float]:
    with np.errstate(over="ignore"):  # what overflows becomes infinite and is refused
        array = np.asarray(numbers, np.float32)
    if array.ndim != 1 or not np.all(np.isfinite(array)):
        raise UsageError("a correction is a list of finite numbers", where=where)
    found: list[float] = array.tolist()
    return found


def _rounding(word: Any, weighted: bool, where: str) -> str:
    if word not in ROUNDINGS or not weighted:
        hint = f"one of {', '.join(ROUNDINGS)}, or none"
        raise UsageError(f"no rounding {word!r} of a weight", where=where, hint=hint)
    return str(word)


def _rotate_from_json(entry: dict[str, Any]) -> dict[str, Any]:
    held: dict[str, Any] = {"sites": [str(name) for name in entry["sites"]], "seed": int(entry["seed"])}
    if entry.get("draws"):
        held["draws"] = {str(name): _draw_from_json(item) for name, item in entry["draws"].items()}
        if not held["draws"].keys() <= set(held["sites"]):
            raise ValueError("a draw belongs to one of the sites")
    return held


def _draw_from_json(entry: dict[str, Any]) -> dict[str, Any]:
    held: dict[str, Any] = {"seed": int(entry["seed"])}
    if entry.get("shuffle"):
        held["shuffle"] = int(entry["shuffle"])
    if entry.get("order"):
        held["order"] = [int(place) for place in entry["order"]]
        channels = sorted(place if place >= 0 else -1 - place for place in held["order"])
        if channels != list(range(len(channels))) or "shuffle" in held:
            raise ValueError("an order names each channel once, c or -1 - c, and has no shuffle")
    return held


def _quant_to_json(quant: TensorQuant) -> dict[str, Any]:
    scheme = quant.scheme
    entry: dict[str, Any] = {"dtype": scheme.dtype.name.lower(), "scale": _decimals(quant.scale)}
    if scheme.bits != scheme.dtype.bitwidth:
        entry["bits"] = scheme.bits
    if not scheme.symmetric:
        entry["symmetric"] = False
    if quant.axis is not None:
        entry["axis"] = quant.axis
    if isinstance(scheme.granularity, PerBlock):
        entry["block"] = scheme.granularity.size
    if quant.zero_point is not None:
        entry["zero_point"] = quant.zero_point.tolist()
    return entry


def _decimals(scale: np.ndarray[Any, Any]) -> Any:
    text = np.asarray(scale, np.float32).astype("U").astype(np.float64)  # shortest decimal of the float32
    return text.tolist()


def _quant_from_json(entry: dict[str, Any], where: str) -> TensorQuant:
    dtype = ir.DataType[entry["dtype"].upper()]
    axis, block = entry.get("axis"), entry.get("block")
    granularity: Granularity = PerTensor()
    if axis is not None:
        granularity = PerAxis(int(axis)) if block is None else PerBlock(int(axis), int(block))
    scheme = QuantScheme(dtype, granularity, bool(entry.get("symmetric", True)), int(entry.get("bits", dtype.bitwidth)))
    if not 2 <= scheme.bits <= dtype.bitwidth:
        raise UsageError(f"{scheme.bits} bits don't fit {entry['dtype']}", where=where, hint=f"2 to {dtype.bitwidth}")
    with np.errstate(over="ignore"):  # what overflows becomes infinite and is refused
        scale = np.asarray(entry["scale"], np.float32)
    if not np.all(np.isfinite(scale)) or not np.all(scale > 0):
        raise UsageError("a scale must be positive and finite", where=where)
    fits = isinstance(granularity, PerBlock) or scale.ndim == isinstance(granularity, PerAxis)
    if not fits or not scale.size:
        raise UsageError("a scale is one number, with an axis a list of them", where=where)
    zero = entry.get("zero_point")
    return TensorQuant(scheme, scale, None if zero is None else np.asarray(zero, dtype.numpy()))
