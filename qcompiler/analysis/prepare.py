"""The model as the planner sees it, and the activations to look at."""

from __future__ import annotations

import re
from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.config import nearest
from qcompiler.equivalence import EquivalenceGuard
from qcompiler.errors import UnsupportedError, UsageError
from qcompiler.filters import nodes_kept_float
from qcompiler.float_passes import form_passes
from qcompiler.graph import is_float
from qcompiler.options import CompileOptions
from qcompiler.passes.fold.pipeline import fold_passes
from qcompiler.passes.normalize.inline_functions import InlineFunctions
from qcompiler.passes.normalize.name_everything import NameEverything
from qcompiler.passes.precision.carry_float32 import CarryFloat32, refuse_bfloat16
from qcompiler.passes.quant.select_sites import Sites, select_sites
from qcompiler.pipeline import Pipeline
from qcompiler.session import Feeds
from qcompiler.target import Target


@dataclass(frozen=True, slots=True)
class Subject:
    """The model under analysis.

    Attributes:
        model: Normalized float model.
        sites: What the planner would quantize.
        sources: Tensor to look at, to the tensor whose range the planner takes for it.
        extra: Tensors that only `--tensors` asked for.
        kept_float: Nodes that the user keeps float.
    """

    model: ir.Model
    sites: Sites
    sources: dict[str, str]
    extra: tuple[str, ...]
    kept_float: frozenset[str] = frozenset()

    @property
    def tensors(self) -> tuple[str, ...]:
        """All tensors to look at."""
        return (*self.sources, *self.extra)


def prepare(model: ir.Model, target: Target, options: CompileOptions, sample: Feeds, pattern: str = "") -> Subject:
    """Rewrite `model` in place as a compile would, and choose the activations.

    Args:
        sample: Real inputs, on which the rewrites are proven.
        pattern: Regular expression on names of further tensors.

    Raises:
        UsageError: A pattern that is no regular expression or matches nothing.
        UnsupportedError: bfloat16, or nothing that could be quantized.
    """
    model = float_form(model, target, sample, options.threads)
    kept_float = nodes_kept_float(model, options)
    sites = select_sites(model, target.placement, kept_float)
    sources = _one_per_source(sites)
    extra = _matching(model, pattern, sources) if pattern else ()
    if not sources and not extra:
        raise UnsupportedError("nothing here would be quantized", hint="--tensors REGEX looks at other tensors")
    return Subject(model, sites, sources, extra, kept_float)


def float_form(model: ir.Model, target: Target, sample: Feeds, threads: int = 0) -> ir.Model:
    """`model`, rewritten in place, as a compile sees it before it rotates or equalizes: the names of nodes are its.

    Args:
        sample: Real inputs, on which the rewrites are proven.

    Raises:
        UnsupportedError: bfloat16.
    """
    refuse_bfloat16(model)
    model, _ = Pipeline([NameEverything()]).run(model)
    guard = EquivalenceGuard([sample], threads)
    model, _ = Pipeline([InlineFunctions()], guard=guard).run(model)
    model, _ = Pipeline([CarryFloat32()]).run(model)
    model, _ = Pipeline([*form_passes(target), *fold_passes()], guard=guard).run(model)
    return model


def _one_per_source(sites: Sites) -> dict[str, str]:
    """Tensors that layout operators made of one another have one range: look at one, the source where it is read."""
    chosen: dict[str, str] = {}
    for tensor, source in sites.sources.items():
        if tensor == source:
            chosen[source] = tensor
        chosen.setdefault(source, tensor)
    return {tensor: source for source, tensor in chosen.items()}


def _matching(model: ir.Model, pattern: str, known: dict[str, str]) -> tuple[str, ...]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{pattern!r} is not a regular expression: {error}", where="--tensors") from error
    names = [str(value.name) for value in model.graph.inputs if is_float(value)]
    names += [str(value.name) for node in model.graph for value in node.outputs if is_float(value)]
    found = tuple(name for name in names if expression.search(name) and name not in known)
    if not found and not any(expression.search(name) for name in known):
        raise UsageError(f"{pattern!r} matches no tensor", where="--tensors", hint=nearest(pattern, names))
    return found
