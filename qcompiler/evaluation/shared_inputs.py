"""One set of inputs for models that take them in different forms: other float widths, states as codes."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.calibration.inputs import InputSpec, input_specs
from qcompiler.errors import UsageError
from qcompiler.session import Arrays, Feeds
from qcompiler.state_codes import Array, encode_states, states_in_codes, with_float_states


def feeds_for(model: ir.Model, feeds: Feeds, where: str, giver: str = "the other model") -> Arrays:
    """The inputs that `model` takes, out of `feeds`: states that it carries as codes rounded to them, floats in the
    width that it takes.

    Args:
        feeds: States are floats in them, whatever the models take.
        where: The model, for messages.
        giver: What the feeds are made for, for messages.

    Raises:
        UsageError: An input is missing, or of another type or shape.
    """
    coded = encode_states(feeds, states_in_codes(model))
    found = {}
    for spec in input_specs(model):
        if spec.name not in coded:
            raise UsageError(f"has the input {spec.name!r}, which {giver} lacks", where=where,
                             hint=f"the inputs are {', '.join(feeds)}")  # fmt: skip
        found[spec.name] = _fitted(coded[spec.name], spec, where, giver)
    return found


def _fitted(array: Array, spec: InputSpec, where: str, giver: str) -> Array:
    if array.dtype != spec.dtype and {array.dtype.kind, spec.dtype.kind} != {"f"}:
        message = f"takes the input {spec.name!r} as {spec.dtype}, {giver} as {array.dtype}"
        raise UsageError(message, where=where)
    fits = not spec.ranked or (
        len(spec.shape) == array.ndim
        and all(not isinstance(dim, int) or dim == size for dim, size in zip(spec.shape, array.shape, strict=True))
    )
    if not fits:
        raise UsageError(f"takes {spec}, and {giver} {list(array.shape)}", where=where)
    return array.astype(spec.dtype, copy=False)


def with_equal_states(first: ir.Model, second: ir.Model) -> tuple[ir.Model, ir.Model]:
    """Both with floats for the states that only one of them takes as codes, or that have other scales in the two."""
    codes = states_in_codes(first), states_in_codes(second)
    names = [
        name
        for name in dict.fromkeys([*codes[0], *codes[1]])
        if not (name in codes[0] and name in codes[1] and codes[0][name].quant.scale == codes[1][name].quant.scale)
    ]
    one, other = (
        with_float_states(model, {name: own[name] for name in names if name in own}) if own else model
        for model, own in zip((first, second), codes, strict=True)
    )
    return one, other
