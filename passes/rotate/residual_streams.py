"""Residual streams: every constant and layer that writes one, and every norm and layer that reads it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import onnx_ir as ir

from qcompiler.graph import constant_array, rank
from qcompiler.passes.canonical.forms import NORM_FORMS, Form, form_of, site_of
from qcompiler.passes.rotate.marks import is_marked
from qcompiler.passes.rotate.stream_steps import SUMS, axis_before, keeps_channels, layer_writers
from qcompiler.passes.sites.norm_sites import norm_sites
from qcompiler.passes.sites.readers import axis_behind, factored_operand, reader_of, same_for_all_channels
from qcompiler.passes.sites.records import Operand, Reader, Refusal, Site


@dataclass(frozen=True, slots=True)
class Stream:
    """x = sum of what writers add; norms and layers read it.

    Attributes:
        name: What the first norm reads.
        writers: Constants whose `axis` is the channels: embedding tables, weights (output channels), biases, tokens.
        readers: Layers that read the stream itself.
        norms: Sites of its norms; all their readers are layers.
        centred: Whether a norm takes the mean off, which a rotation then has to keep.
    """

    name: str
    channels: int
    writers: tuple[Operand, ...]
    readers: tuple[Reader, ...]
    norms: tuple[Site, ...]
    centred: bool


@dataclass(frozen=True, slots=True)
class NoStream:
    """What a norm reads and cannot be rotated, and why."""

    name: str
    reason: str


def residual_streams(model: ir.Model) -> list[Stream | NoStream]:
    """Streams in the order of their first norms; each norm belongs to one.

    A rotation needs every place that touches a stream, so one unknown reader or writer refuses it: a norm that is also
    read by a residual Add (post-LN), a norm's output as the stream itself, inputs and outputs of the model, operators
    that treat channels differently.
    """
    norms = _Norms(model)
    found: list[Stream | NoStream] = []
    done: set[str] = set()
    for key, value in norms.inputs.items():
        if key in done:
            continue
        if norms.forms[key] is Form.GROUP_NORM:
            found.append(NoStream(str(value.name), f"norm {key} normalizes over other axes than the last"))
            continue
        walk = _Walk(norms)
        walk.all_from(value)
        done |= {key, *walk.keys}
        found.append(walk.stream(value))
    return found


class _Norms:
    """Norms of a model: what each reads, and its site or why it is none."""

    def __init__(self, model: ir.Model) -> None:
        self.graph = model.graph
        parts: dict[str, list[ir.Node]] = defaultdict(list)
        for node in model.graph:
            key = site_of(node)
            if form_of(node) in NORM_FORMS and key is not None:
                parts[key].append(node)
        self.forms = {key: form_of(nodes[0]) for key, nodes in parts.items()}
        self.inputs: dict[str, ir.Value] = {}
        for key, nodes in parts.items():
            first = nodes[0].inputs[0]
            if first is not None:
                self.inputs[key] = first
        sites = {item.name: item for item in norm_sites(model)}
        self.sites: dict[str, Site | Refusal | None] = {
            key: sites.get(str(nodes[-1].outputs[0].name), sites.get(key)) for key, nodes in parts.items()
        }


@dataclass(slots=True)
class _Walk:
    norms: _Norms
    keys: list[str] = field(default_factory=list)
    writers: list[Operand] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)
    seen: dict[ir.Value, int] = field(default_factory=dict)
    waiting: list[ir.Value] = field(default_factory=list)
    refusal: str = ""

    def all_from(self, value: ir.Value) -> None:
        self._reach(value, -1)
        while self.waiting:  # on behind a refusal too, else each norm would walk the whole stream again
            current = self.waiting.pop()
            axis = self.seen[current]
            self._made(current, axis)
            self._read(current, axis)

    def stream(self, value: ir.Value) -> Stream | NoStream:
        name = str(value.name)
        if self.refusal:
            return NoStream(name, self.refusal)
        sites: list[Site] = []
        for key in self.keys:
            site = self.norms.sites[key]
            if not isinstance(site, Site):
                return NoStream(name, f"norm {key}: {site.reason if site is not None else 'its parts are not known'}")
            if site.edges:
                return NoStream(name, f"post-LN: norm {key} is also read by {site.edges[0].node.op_type}")
            sites.append(site)
        nodes = [*(item.node for item in self.writers), *(site.scales[0].node for site in sites)]
        if any(is_marked(node, "residual") for node in nodes):
            return NoStream(name, "it is rotated already")
        if len({site.channels for site in sites}) != 1:
            return NoStream(name, "its norms do not agree on its channels")
        centred = any(self.norms.forms[key] is Form.LAYER_NORM for key in self.keys)
        writers = {(id(item.node), item.index): item for item in self.writers}
        return Stream(name, sites[0].channels, tuple(writers.values()), tuple(self.readers), tuple(sites), centred)

    def _reach(self, value: ir.Value, axis: int) -> None:
        if value in self.seen:
            if self.seen[value] != axis:
                self._refuse(f"the channels of {value.name} lie along two axes")
            return
        if value.is_graph_input():
            self._refuse(f"{value.name} is an input of the model")
        elif value.is_graph_output():
            self._refuse(f"{value.name} is an output of the model")
        self.seen[value] = axis
        self.waiting.append(value)

    def _refuse(self, reason: str) -> None:
        self.refusal = self.refusal or reason

    # --- who made it ---------------------------------------------------------------------------------------------

    def _made(self, value: ir.Value, axis: int) -> None:
        node = value.producer()
        op = node.op_type if node is not None and node.domain == "" else ""
        if node is None or not op:
            self._refuse(f"{value.name} comes from {node.op_type if node is not None else 'nowhere'}")
        elif form_of(node) in NORM_FORMS:
            self._refuse(f"{value.name} is what a norm gives (post-LN, or a norm behind the embedding)")
        elif (written := layer_writers(node, value, axis)) is not None:
            self.writers += written
        elif (scaled := factored_operand(node, axis)) is not None or op in (*SUMS, "Concat"):
            if op == "Concat" and node.attributes.get_int("axis", 0) % (rank(value) or 1) == (rank(value) or 1) + axis:
                self._refuse(f"{value.name} is put together along its channels")
            else:
                for index in (scaled,) if scaled is not None else range(len(node.inputs)):
                    self._operand(node, index, value, axis)
        elif op == "Where" and same_for_all_channels(node.inputs[0], axis):
            for index in (1, 2):
                self._operand(node, index, value, axis)
        elif op == "Expand":
            self._operand(node, 0, value, axis)
        elif (before := axis_before(node, axis)) is not None:
            self._operand(node, 0, value, before, moved=True)
        else:
            self._refuse(f"{value.name} comes from {op}")

    def _operand(self, node: ir.Node, index: int, value: ir.Value, axis: int, *, moved: bool = False) -> None:
        """A term of the stream, a constant or computed; its channels must be as many."""
        operand = node.inputs[index]
        if operand is None or operand.shape is None or value.shape is None or len(operand.shape) < -axis:
            self._refuse(f"an operand of {node.name} has no channels")
            return
        wanted = value.shape[self.seen[value]]
        if operand.shape[axis] != wanted or not isinstance(wanted, int):
            self._refuse(f"{operand.name} does not have the channels of {value.name}")
        elif constant_array(operand) is None:
            self._reach(operand, axis)
        elif operand.const_value is not None:
            self.writers.append(Operand(node, index, axis))
        else:
            self._refuse(f"{operand.name} is a constant behind Identity")

    # --- who reads it --------------------------------------------------------------------------------------------

    def _read(self, value: ir.Value, axis: int) -> None:
        for use in value.uses():
            node, index = use.node, use.idx
            key = site_of(node)
            if node.graph is not self.norms.graph:
                self._refuse(f"{value.name} is read inside the body of {node.op_type}")
            elif form_of(node) in NORM_FORMS and key is not None:
                if axis != -1 or self.norms.inputs.get(key) is not value:
                    self._refuse(f"norm {key} does not normalize the channels of {value.name}")
                elif key not in self.keys:
                    self.keys.append(key)
            elif node.op_type == "Shape":
                continue
            elif (layer := reader_of(node, index, axis)) is not None:
                self.readers.append(layer)
            else:
                self._pass_on(node, index, value, axis)

    def _pass_on(self, node: ir.Node, index: int, value: ir.Value, axis: int) -> None:
        if keeps_channels(node, index, value, axis):
            self._reach(node.outputs[0], axis)
        elif index == 0 and (moved := axis_behind(node, axis)) is not None:
            for output in node.outputs:
                self._reach(output, moved)
        else:
            self._refuse(f"{value.name} is read by {node.op_type}")
