"""Example inputs as users give them: tensors, arrays, caches, or only shapes and types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from qcompiler.errors import UsageError
from qcompiler.shapes import split_shapes
from qcompiler.torch_export.structures import as_tensor

Inputs = tuple[Any, ...] | Mapping[str, Any]
_FEW = 2


def example_inputs(module: torch.nn.Module, given: Any, seed: int) -> Inputs:
    """Positional inputs as a tuple or keyword inputs as a mapping, every tensor on the CPU.

    Args:
        given: A tensor or array; a tuple or list of them (positional); a mapping of names to tensors, arrays, nests,
            caches and constants; or a mapping of names to shapes: (2, 16), ((2, 16), "int64") or "2x16:int64".
            Inputs made from shapes are seeded: floats standard normal, integers below the rows of the table that they
            index, masks ones, positions counting up.

    Raises:
        UsageError: None of these, an unknown type, or a tensor that is not on the CPU.
    """
    given = as_tensor(given)
    inputs: Inputs
    if isinstance(given, Tensor):
        inputs = (given,)
    elif isinstance(given, Mapping):
        inputs = _from_mapping(module, given, seed)
    elif isinstance(given, (tuple, list)):
        inputs = tuple(given)
    else:
        message = f"example inputs cannot be a {type(given).__name__}"
        raise UsageError(message, hint="give a tuple of tensors, a dict of names to tensors, or one of names to shapes")
    return inputs


def parse_shapes(texts: Sequence[str], where: str) -> dict[str, Any]:
    """`name:2x16:int64` (or several, separated by commas) as names to (shape, type); names may hold colons.

    Without a type, inputs whose name ends in `_ids` or `mask` are int64, others float32.

    Raises:
        UsageError: Not of this form.
    """
    found: dict[str, Any] = {}
    for text in (part for item in texts for part in item.split(",")):
        head, colon, last = text.rpartition(":")
        dtype = last if colon and not last[:1].isdigit() else ""
        for name, shapes in split_shapes([head if dtype else text], where).items():
            found[name] = (shapes[-1], dtype) if dtype else shapes[-1]
    return found


def _from_mapping(module: torch.nn.Module, given: Mapping[Any, Any], seed: int) -> Mapping[str, Any]:
    specs = {name: spec for name, value in given.items() if (spec := _as_spec(str(name), value)) is not None}
    inputs = dict(given)
    if not specs:
        return inputs
    inputs |= {name: torch.zeros(shape, dtype=dtype) for name, (shape, dtype) in specs.items()}
    bounds = _table_rows(module, {name: inputs[name] for name in specs}, inputs)
    generator = torch.Generator().manual_seed(seed)
    return inputs | {name: _fresh(name, *spec, bounds[name], generator) for name, spec in specs.items()}


def _as_spec(name: str, value: Any) -> tuple[tuple[int, ...], torch.dtype] | None:
    dtype: Any = torch.int64 if name.endswith(("_ids", "mask")) else torch.float32
    if isinstance(value, str) and value[:1].isdigit():
        ((_, value),) = parse_shapes([f"{name}:{value}"], "example inputs").items()
    pair = isinstance(value, (tuple, list)) and len(value) == 2 and not isinstance(value[1], (int, Tensor, tuple, list))
    if pair:
        value, dtype = value[0], _dtype(name, value[1])
    if not isinstance(value, (tuple, list, torch.Size)) or not all(type(size) is int for size in value):
        return None
    return tuple(value), dtype


def _dtype(name: str, given: Any) -> torch.dtype:
    if isinstance(given, torch.dtype):
        return given
    try:
        word = given if isinstance(given, str) else np.dtype(given).name
        found = getattr(torch, word)
    except (TypeError, AttributeError):
        found = None
    if not isinstance(found, torch.dtype):
        raise UsageError(f"unknown type {given!r} of {name!r}", hint="float32, int64, bool, ...")
    return found


def _fresh(name: str, shape: tuple[int, ...], dtype: torch.dtype, rows: int, generator: torch.Generator) -> Tensor:
    if "mask" in name or dtype is torch.bool:
        return torch.ones(shape, dtype=dtype)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    if "position" in name:
        return torch.arange(shape[-1]).remainder(rows).expand(shape).to(dtype).contiguous()
    return torch.randint(rows, shape, generator=generator).to(dtype)


def _table_rows(module: torch.nn.Module, fresh: Mapping[str, Tensor], inputs: Mapping[str, Any]) -> dict[str, int]:
    """How large the integers of each input may be: the rows of the table it indexes, else of the smallest table."""
    spy = _Lookups()
    with suppress(Exception), spy:  # whatever is raised, the export itself meets it again and reports it
        module(**inputs)
    smallest = min(spy.rows.values(), default=_FEW)
    return {name: spy.rows.get(tensor.untyped_storage().data_ptr(), smallest) for name, tensor in fresh.items()}


class _Lookups(TorchFunctionMode):
    """Notes, for the memory of every index tensor, the fewest rows that it looked up in."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, int] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.embedding:
            index, table = args[0], args[1] if len(args) > 1 else (kwargs or {})["weight"]
            place = index.untyped_storage().data_ptr()
            self.rows[place] = min(int(table.shape[0]), self.rows.get(place, int(table.shape[0])))
        return func(*args, **(kwargs or {}))
