"""A user's module as one that takes flat tensors and returns flat tensors, which is what both exporters handle."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from qcompiler.errors import UsageError
from qcompiler.torch_export.structures import children, flatten, is_cache, is_pairs, rebuild

PREFIX = "module"
"""Where the user's module sits in the adapter: prefix of every parameter's and scope's name."""


class Adapter(nn.Module):
    """`forward(*tensors)` calls the module with the nest they were taken from, and flattens what it returns.

    Args:
        inputs: Positional arguments as a tuple, keyword arguments as a mapping; tensors in it are placeholders.
    """

    def __init__(self, module: nn.Module, inputs: tuple[Any, ...] | Mapping[str, Any]) -> None:
        super().__init__()
        self.module = module
        self.inputs = inputs
        self.options = _cache_option(module, inputs)
        self.training = False

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor for _, tensor in self.named(*tensors))

    def named(self, *tensors: Tensor) -> list[tuple[str, Tensor]]:
        """The outputs with their names, as the module's own structure gives them."""
        given = rebuild(self.inputs, iter(tensors))
        keywords = isinstance(given, Mapping)
        result = self.module(**given, **self.options) if keywords else self.module(*given, **self.options)
        return _outputs(result)


def input_names(module: nn.Module, inputs: tuple[Any, ...] | Mapping[str, Any]) -> list[tuple[str, Tensor]]:
    """Names and tensors of all inputs: by keyword, or by the forward's parameter names.

    Raises:
        UsageError: An argument that the forward does not take; too many; no tensor at all.
    """
    parameters = inspect.signature(module.forward).parameters
    where = type(module).__name__
    if isinstance(inputs, Mapping):
        takes_any = any(item.kind is item.VAR_KEYWORD for item in parameters.values())
        unknown = next((name for name in inputs if name not in parameters and not takes_any), None)
        if unknown is not None:
            known = ", ".join(name for name, item in parameters.items() if item.kind is not item.VAR_POSITIONAL)
            raise UsageError(f"forward takes no {unknown!r}", where=where, hint=f"it takes {known}")
        named = list(inputs.items())
    else:
        named = list(zip(_positional(parameters, len(inputs), where), inputs, strict=True))
    found = [item for name, value in named for item in flatten(name, value)]
    if not found:
        raise UsageError("the example inputs hold no tensor", where=where)
    return found


def _positional(parameters: Mapping[str, inspect.Parameter], count: int, where: str) -> list[str]:
    names: list[str] = []
    for name, item in parameters.items():
        if item.kind is item.VAR_POSITIONAL:
            return names[:count] + [f"{name}.{i}" for i in range(count - len(names))]
        if item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD):
            names.append(name)
    if count > len(names):
        raise UsageError(f"{count} example inputs, but forward takes {len(names)}", where=where)
    return names[:count]


def _outputs(result: Any) -> list[tuple[str, Tensor]]:
    """Named outputs: keys, fields, "output" for a single tensor, output_0, output_1, ... for a tuple."""
    if isinstance(result, Tensor):
        return [("output", result)]
    parts = children(result)
    if parts is None or is_cache(result):
        parts = [("present", result)]
    elif isinstance(result, (list, tuple)) and not hasattr(result, "_fields"):
        parts = [("present" if is_cache(part) or is_pairs(part) else f"output_{key}", part) for key, part in parts]
    return [item for key, part in parts if part is not None for item in flatten(key, part, output=True)]


def _cache_option(module: nn.Module, inputs: tuple[Any, ...] | Mapping[str, Any]) -> dict[str, bool]:
    """Hugging Face decoders return their cache unless told otherwise: only those that are given one shall."""
    config = getattr(module, "config", None)
    if getattr(config, "use_cache", None) is None or "use_cache" not in inspect.signature(module.forward).parameters:
        return {}
    if not isinstance(inputs, Mapping):
        return {"use_cache": any(is_cache(item) for item in inputs)}
    return {} if "use_cache" in inputs else {"use_cache": any(is_cache(item) for item in inputs.values())}
