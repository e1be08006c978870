"""Example inputs of a decoder in the middle of a text: new tokens, and the cache or states that earlier ones left."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from qcompiler.errors import UsageError
from qcompiler.torch_export.examples import example_inputs
from qcompiler.torch_export.modes import evaluating
from qcompiler.torch_export.structures import children, is_cache, is_pairs

_KEYWORDS = ("past_key_values", "cache_params", "states", "past")


def cached_inputs(
    module: nn.Module, *, batch: int = 2, past: int = 5, length: int = 3, seed: int = 0
) -> dict[str, Any]:
    """Keyword inputs for a forward with a cache, for `export`: the module itself makes the cache, from `past` tokens.

    With the axes that `export` finds by itself, one graph then serves prefill (`past_sequence_length` 0) and decoding.
    State-space models take one token with their states: `length=1`.

    Args:
        module: A causal language model whose forward takes `input_ids` and one of `past_key_values`, `cache_params`,
            `states`, and returns what belongs there: Hugging Face's, or one that returns pairs or states.

    Returns:
        input_ids [batch, length], the cache and, where the forward takes them, attention_mask [batch, past + length]
        and position_ids [batch, length].

    Raises:
        UsageError: There is no such argument, or no cache comes back.
    """
    where = type(module).__name__
    parameters = inspect.signature(module.forward).parameters
    keyword = next((name for name in _KEYWORDS if name in parameters), None)
    if keyword is None or "input_ids" not in parameters:
        raise UsageError(f"forward takes no input_ids with one of {', '.join(_KEYWORDS)}", where=where)
    options = {"use_cache": True} if "use_cache" in parameters else {}
    with evaluating(module):
        before = _tokens(module, batch, past, seed)
        cache = _find_cache(module(**before, **options))
        inputs = _tokens(module, batch, length, seed + 1)
    if cache is None:
        raise UsageError("forward returns no cache", where=where)
    if keyword == "past_key_values" and "attention_mask" in parameters:
        inputs["attention_mask"] = torch.ones(batch, past + length, dtype=torch.int64)
    if "position_ids" in parameters:
        inputs["position_ids"] = torch.arange(past, past + length).expand(batch, length).contiguous()
    return {**inputs, keyword: cache}


def _tokens(module: nn.Module, batch: int, length: int, seed: int) -> dict[str, Any]:
    return dict(example_inputs(module, {"input_ids": ((batch, length), "int64")}, seed))


def _find_cache(result: Any) -> Any:
    """The cache, pairs or list of states among the outputs."""
    if is_cache(result) or is_pairs(result):
        return result
    parts = [] if isinstance(result, torch.Tensor) else children(result) or []
    keys = {key for _, part in parts[:1] for key, _ in children(part) or []}
    if keys == {"conv_state", "ssm_state"}:
        return result
    found = (_find_cache(part) for _, part in parts)
    return next((item for item in found if item is not None), None)
