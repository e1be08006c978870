"""Nests of tensors and caches as flat, named tensors, and back.

Names are those that onnxruntime-genai and optimum use: `past_key_values.{i}.key` and `.value` come in,
`present.{i}.key` and `.value` go out; states of state-space models are `past_conv_state.{i}`, `past_ssm_state.{i}` and
`present_...`. Everything else is named by its path: `hidden_states.3`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from qcompiler.errors import UsageError

_CACHES = ("past_key_values", "past_key_value", "present_key_values", "presents", "present", "cache_params")
_CONSTANTS = (bool, int, float, str, type(None))


def flatten(name: str, value: Any, *, output: bool = False) -> list[tuple[str, Tensor]]:
    """Names and tensors of `value`, which is called `name`; constants have none.

    Raises:
        UsageError: Something that is neither a tensor, a nest, a cache nor a constant; a constant among outputs.
    """
    if isinstance(value, Tensor):
        return [(name, value)]
    if is_cache(value):
        word = "present" if output else "past"
        return [item for i, layer in enumerate(value.layers) for item in _layer_tensors(layer, i, word, output)]
    if name in _CACHES and is_pairs(value):
        stem = "present" if output else "past_key_values"
        return [(f"{stem}.{i}.{word}", item) for i, pair in enumerate(value) for word, item in _key_value(pair)]
    parts = children(value)
    if parts is not None:
        if {key for key, _ in parts} == {"conv_state", "ssm_state"}:
            word, index = "present" if output else "past", name.rpartition(".")[2]
            return [(f"{word}_{key}.{index}", tensor) for key, tensor in parts]
        return [
            item
            for key, part in parts
            if not (output and part is None)
            for item in flatten(f"{name}.{key}" if name else key, part, output=output)
        ]
    if isinstance(value, _CONSTANTS) and not output:
        return []
    what = "an output" if output else "an input"
    raise UsageError(f"{what} {name!r} is a {type(value).__name__}", hint="tensors, nests of tensors and caches export")


def rebuild(template: Any, tensors: Iterator[Tensor]) -> Any:
    """`template` with its tensors replaced, in the order of `flatten`; caches are new ones."""
    if isinstance(template, Tensor):
        return next(tensors)
    if is_cache(template):
        return _rebuilt_cache(template, tensors)
    if isinstance(template, Mapping):
        return {key: rebuild(part, tensors) for key, part in template.items()}
    if isinstance(template, tuple) and hasattr(template, "_fields"):
        return type(template)(*(rebuild(part, tensors) for part in template))
    if isinstance(template, (list, tuple)):
        return type(template)(rebuild(part, tensors) for part in template)
    return template


def children(value: Any) -> list[tuple[str, Any]] | None:
    """Names and parts of a mapping, dataclass, named tuple, list or tuple; None for anything else."""
    if isinstance(value, Mapping):
        return [(str(key), part) for key, part in value.items()]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    if is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in fields(value)]
    if isinstance(value, (list, tuple)):
        return [(str(index), part) for index, part in enumerate(value)]
    return None


def is_cache(value: Any) -> bool:
    """Whether this is a cache of Hugging Face transformers, which keeps its tensors in `layers`."""
    return hasattr(value, "layers") and any(kind.__name__ == "Cache" for kind in type(value).__mro__)


def is_pairs(value: Any) -> bool:
    """Whether this is one plain pair of tensors a layer."""
    return isinstance(value, Sequence) and bool(value) and all(map(_is_pair, value))


def _is_pair(value: Any) -> bool:
    plain = isinstance(value, (list, tuple)) and not hasattr(value, "_fields")
    return plain and len(value) == 2 and all(isinstance(item, Tensor) for item in value)


def _key_value(pair: Sequence[Tensor]) -> list[tuple[str, Tensor]]:
    return [("key", pair[0]), ("value", pair[1])]


def _layer_tensors(layer: Any, index: int, word: str, output: bool) -> list[tuple[str, Tensor]]:
    """Tensors of one layer of a cache that is in use: keys and values, or the states of a linear attention."""
    found = []
    if hasattr(layer, "conv_states"):
        found += [(f"{word}_conv_state.{index}", layer.conv_states[0])]
        found += [(f"{word}_ssm_state.{index}", layer.recurrent_states[0])]
    if isinstance(getattr(layer, "keys", None), Tensor):
        stem = "present" if output else "past_key_values"
        found += [(f"{stem}.{index}.key", layer.keys), (f"{stem}.{index}.value", layer.values)]
    if any(not isinstance(item, Tensor) for _, item in found):
        message = f"layer {index} of the cache is empty"
        raise UsageError(message, hint="give a cache that is in use: qcompiler.torch_export.cached_inputs makes one")
    return found


def _rebuilt_cache(template: Any, tensors: Iterator[Tensor]) -> Any:
    cache = copy.copy(template)
    cache.layers = []
    for old in template.layers:
        layer = copy.copy(old)
        if hasattr(old, "conv_states"):
            # Clones: such layers write their states in place, and a graph's inputs stay what they are.
            layer.conv_states = {**old.conv_states, 0: next(tensors).clone()}
            layer.recurrent_states = {**old.recurrent_states, 0: next(tensors).clone()}
            for flags in ("is_conv_states_initialized", "is_recurrent_states_initialized", "has_previous_state"):
                setattr(layer, flags, dict(getattr(old, flags)))
        if isinstance(getattr(old, "keys", None), Tensor):
            layer.keys, layer.values = next(tensors), next(tensors)
            if hasattr(layer, "cumulative_length") and isinstance(layer.cumulative_length, int):
                layer.cumulative_length = layer.keys.shape[-2]
        cache.layers.append(layer)
    return cache


def as_tensor(value: Any) -> Any:
    """NumPy arrays, also inside nests, as tensors; the rest as it is."""
    if type(value).__module__ == "numpy" and hasattr(value, "dtype"):
        return torch.as_tensor(value)
    if isinstance(value, Mapping):
        return {key: as_tensor(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(as_tensor(part) for part in value)
    return value
