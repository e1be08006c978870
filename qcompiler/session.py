"""Running an `onnx_ir.Model` on onnxruntime without writing it to disk.

Large weights never pass through protobuf, so models over 2 GB run like small ones: the serialized graph names them as
external data and the session takes the arrays themselves.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.errors import CalibrationError, ModelError

Feeds = Mapping[str, np.ndarray[Any, Any]]
Arrays = dict[str, np.ndarray[Any, Any]]

_INLINE_BYTES = 4096  # small tensors stay in the graph: shape inference and fusions read them

_BIAS_QUANTIZER = "WeightBiasQuantization"
"""onnxruntime's rewrite of a float bias to int32 divides in the scales' type: in float16, bias / (sx * sw) overflows
beyond 65504 and the layer's output is garbage (1.31). Integers of that size are common, so it is off in such graphs."""

_MANY_NODES = 10_000
"""Nodes from which onnxruntime's rewrites and its reuse of buffers are off: both take time that grows with the square
of the nodes. 24,000 nodes of a recurrence written out step by step load in 3 s instead of 29 (1.31)."""

_SIGN_CHANGER = "QDQS8ToU8Transformer"
"""onnxruntime's retyping of int8 Q/DQ pairs forgets the output type of a pair at a graph output and then refuses its
own graph (1.31, processors without VNNI). What we emit for onnxruntime is unsigned already."""


class Session:
    """An onnxruntime CPU session over an in-memory model.

    Args:
        model: Left untouched.
        extra_outputs: Names of inner values to return besides the graph's outputs.
        threads: Intra-op threads; 0 lets onnxruntime choose.
        optimize: Whether onnxruntime may rewrite the graph; False shows each node's own arithmetic. Graphs of very
            many nodes are never rewritten.

    Raises:
        ModelError: onnxruntime refuses the model.
    """

    def __init__(
        self, model: ir.Model, extra_outputs: Iterable[str] = (), *, threads: int = 0, optimize: bool = True
    ) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        many = sum(1 for _ in model.graph.all_nodes()) >= _MANY_NODES
        options.enable_mem_reuse = not many
        # idle threads would otherwise take the cores that make histograms, or another process's
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if many or not optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        proto, arrays = serialize_with_weights(with_outputs(model, extra_outputs), options)
        self._kept = arrays, [value.const_value for value in model.graph.initializers.values()]  # files, as long
        unsafe = [_SIGN_CHANGER, _BIAS_QUANTIZER] if _quantizes_float16(model) else [_SIGN_CHANGER]
        try:
            self._session = ort.InferenceSession(
                proto, options, providers=["CPUExecutionProvider"], disabled_optimizers=unsafe
            )
        except Exception as error:  # onnxruntime raises many unrelated types
            raise ModelError(f"onnxruntime refuses the model: {_first_line(error)}") from error
        self.input_names: tuple[str, ...] = tuple(item.name for item in self._session.get_inputs())
        self.output_names: tuple[str, ...] = tuple(item.name for item in self._session.get_outputs())

    def run(self, feeds: Feeds) -> Arrays:
        """All outputs by name for one set of inputs."""
        return dict(zip(self.output_names, self._session.run(None, dict(feeds)), strict=True))

    def run_sample(self, feeds: Feeds) -> Arrays:
        """The same for inputs that the user gave; CalibrationError, with their shapes, where the model refuses them."""
        try:
            return self.run(feeds)
        except Exception as error:  # onnxruntime raises many unrelated types
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
            first = _first_line(error)
            message = f"the model cannot run a batch of {shapes}: {first}"
            raise CalibrationError(message, hint="check shapes and values") from error


def with_outputs(model: ir.Model, names: Iterable[str]) -> ir.Model:
    """A clone of `model` (tensors shared) that also returns the values called `names`, where they exist."""
    copy = model.clone()
    wanted = set(names) - {value.name for value in copy.graph.outputs}
    if wanted:
        for node in copy.graph:
            copy.graph.outputs.extend(value for value in node.outputs if value.name in wanted)
    return copy


def serialize_with_weights(model: ir.Model, options: Any) -> tuple[bytes, Arrays]:
    """The graph as bytes without its large weights, of which onnxruntime's session options are told.

    Weights in files are named, for onnxruntime to map; others are handed over as arrays, which it copies. Files of one
    folder only: it takes no more.

    Args:
        model: The caller's own clone: its initializers are replaced by references.
        options: onnxruntime.SessionOptions, changed.

    Returns:
        Also the arrays, which must stay alive while the session does; so must the model's tensors.
    """
    import onnxruntime as ort

    for name, value in list(model.graph.initializers.items()):
        if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
            del model.graph.initializers[name]  # onnxruntime refuses to be handed what no node reads
    large = {
        name: value.const_value
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
        and value.const_value.nbytes > _INLINE_BYTES
        and value.const_value.dtype.bitwidth >= 8
    }
    folders = Counter[str]()
    for tensor in large.values():
        if isinstance(tensor, ir.ExternalTensor):
            folders[os.fspath(tensor.base_dir)] += tensor.nbytes
    folder = max(folders, key=lambda item: folders[item]) if folders else ""
    kept: Arrays = {}
    for name, tensor in large.items():
        if isinstance(tensor, ir.ExternalTensor) and os.fspath(tensor.base_dir) == folder and folder:
            location, offset = tensor.location, tensor.offset
        else:
            kept[name] = np.ascontiguousarray(tensor.numpy())
            location, offset = "weights", 0
        model.graph.initializers[name].const_value = ir.ExternalTensor(
            location, offset, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name
        )
    if folder:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    if kept:
        options.add_external_initializers(
            list(kept), [ort.OrtValue.ortvalue_from_numpy(array) for array in kept.values()]
        )
    return ir.to_proto(model).SerializeToString(), kept


def _quantizes_float16(model: ir.Model) -> bool:
    scales = (node.inputs[1] for node in model.graph if node.op_type == "DequantizeLinear")
    return any(scale is not None and scale.dtype == ir.DataType.FLOAT16 for scale in scales)


def run_all(
    model: ir.Model, batches: Sequence[Feeds], extra_outputs: Iterable[str] = (), *, optimize: bool = True
) -> list[Arrays]:
    """Outputs of `model` for each batch."""
    session = Session(model, extra_outputs, optimize=optimize)
    return [session.run(batch) for batch in batches]


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:400]
