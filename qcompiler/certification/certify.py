"""Any two float models, proven to compute the same."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from qcompiler.calibration.synthetic import Shapes, random_feeds
from qcompiler.certification.certificate import Certificate
from qcompiler.certification.prove import Inputs, prove
from qcompiler.errors import UsageError
from qcompiler.session import Feeds

RANDOM_SAMPLES = 2


def certify_models(
    first: ir.Model, second: ir.Model, calibration: Sequence[Feeds] = (), *, samples: int = RANDOM_SAMPLES,
    seed: int = 0, shapes: Shapes | None = None, threads: int = 0,
) -> Certificate:  # fmt: skip
    """Run both on `calibration` and on `samples` random feeds, every second of them with two rows; `first` is the
    reference. In float64, with the values behind what differs between the graphs.

    Raises:
        UsageError: The interfaces differ, or there is nothing that both could run on.
        CalibrationError: `first` does not run on a calibration sample.
        ModelError: onnxruntime refuses `first`.
    """
    _same_interface("input", first.graph.inputs, second.graph.inputs)
    _same_interface("output", first.graph.outputs, second.graph.outputs)
    random: list[Feeds] = []
    for batch in (1, 2):
        feeds = random_feeds(first, samples=samples, seed=seed, batch=batch, shapes=shapes)
        random += feeds[batch % 2 :: 2]
    made = prove(first, second, Inputs(calibration, random), double=True, threads=threads)
    if made.calibration + made.random == 0:
        raise UsageError("the first model runs on none of the inputs", hint="give real samples with --calib")
    return made


def _same_interface(kind: str, ours: Sequence[ir.Value], theirs: Sequence[ir.Value]) -> None:
    """The same names in the same order, the same types, shapes that can be equal."""
    first, second = [[str(value.name) for value in values] for values in (ours, theirs)]
    if first != second:
        names = f"{', '.join(first)} in the first model, {', '.join(second)} in the second"
        raise UsageError(f"the {kind}s differ: {names}", hint="verify pairs them by position")
    for one, other in zip(ours, theirs, strict=True):
        known = one.dtype is not None and other.dtype is not None
        if known and one.dtype != other.dtype:
            raise UsageError(f"{kind} {one.name!r} is {one.dtype} in the first model, {other.dtype} in the second")
        if one.shape is None or other.shape is None:
            continue
        pairs = zip(one.shape, other.shape, strict=False)
        clash = any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs)
        if clash or len(one.shape) != len(other.shape):
            shapes = f"{one.shape} in the first model, {other.shape} in the second"
            raise UsageError(f"{kind} {one.name!r} has shape {shapes}")
