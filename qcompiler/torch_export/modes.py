"""The state a module is exported in: evaluation, without gradient; put back as it was afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """`module` in eval() without gradients; each submodule's training flag is restored, whatever happens."""
    flags = [(part, part.training) for part in module.modules()]
    try:
        with torch.no_grad():
            module.eval()
            yield
    finally:
        for part, flag in flags:
            part.training = flag


@contextmanager
def attention(module: Any, implementation: str | None) -> Iterator[None]:
    """A Hugging Face module with another attention implementation; None leaves it as it is."""
    if implementation is None:
        yield
        return
    before = module.config._attn_implementation
    module.set_attn_implementation(implementation)
    try:
        yield
    finally:
        module.set_attn_implementation(before)


def other_attention(module: Any) -> str | None:
    """ "eager" where the module is one of Hugging Face's with another implementation, else None."""
    config = getattr(module, "config", None)
    current = getattr(config, "_attn_implementation", None)
    able = hasattr(module, "set_attn_implementation")
    return "eager" if able and current not in (None, "eager") else None
