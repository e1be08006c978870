"""The guard that proves float rewrites while a model is compiled."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from qcompiler.calibration.feeds import can_slice, slice_rows
from qcompiler.calibration.inputs import input_specs
from qcompiler.calibration.synthetic import random_feeds
from qcompiler.certification.certificate import Certificate
from qcompiler.certification.prove import Inputs, prove
from qcompiler.graph import constant_array
from qcompiler.options import CompileOptions
from qcompiler.pipeline import PassRun
from qcompiler.session import Feeds

DOUBLE_BYTES = 64 << 20
"""Weights, embedding tables left out, up to which a compile proves in float64; above, float64 costs too much of it."""
DOUBLE_PLACES = 150
"""The same for kernel places of all convolutions together, as each becomes a product of its own."""
JUDGE_BYTES = 1 << 30
"""Up to here a difference found in float32 is judged again in float64."""


@dataclass(slots=True)
class EquivalenceGuard:
    """A `Guard` for `Pipeline`: a certificate for each comparison.

    Attributes:
        samples: Real inputs.
        random: Seeded inputs; see `qcompiler.calibration.synthetic.random_feeds`.
        double: Prove in float64 where that is affordable: for passes that compute new weights. Passes that only move
            and rename are proven in float32 and judged again in float64 where they seem wrong.
        certificates: One for each comparison so far.
    """

    samples: Sequence[Feeds]
    threads: int = 0
    random: Sequence[Feeds] = ()
    double: bool = False
    certificates: list[Certificate] = field(default_factory=list)

    def __call__(self, before: ir.Model, after: ir.Model, passes: Sequence[str] = ()) -> str:
        """The reason why the models differ; empty where they agree."""
        start = time.perf_counter()
        inputs, names = Inputs(self.samples, self.random), tuple(passes)
        double = self.double and max(double_cost(before), double_cost(after)) <= 1
        made = prove(before, after, inputs, double=double, passes=names, threads=self.threads)
        if not made.holds and not double and not made.failure and double_cost(before) * DOUBLE_BYTES <= JUDGE_BYTES:
            second = prove(before, after, inputs, double=True, passes=names, threads=self.threads)
            made = made if second.arithmetic == "float32" else second
        self.certificates.append(replace(made, seconds=time.perf_counter() - start))
        return made.reason

    def kept(self) -> tuple[Certificate, ...]:
        """Certificates without those of runs that were judged pass by pass afterwards."""
        return tuple(dict.fromkeys(item for item in self.certificates if item.holds or len(item.passes) <= 1))


def make_guard(model: ir.Model, sample: Feeds, options: CompileOptions) -> EquivalenceGuard:
    """The guard of a compile: one row of real data, and a random batch of two rows."""
    specs = input_specs(model)
    row = slice_rows(sample, specs, 0, 1) if can_slice(sample, specs) else sample
    shapes = {name: profile[1] for name, profile in options.shapes.items()}
    random = random_feeds(model, seed=options.seed, shapes=shapes or None)
    return EquivalenceGuard([row], options.threads, random)


def undone_passes(runs: Iterable[PassRun], options: CompileOptions) -> list[str]:
    """A line for each pass that was taken back, where `strict` makes that a missed gate."""
    return [f"{run.name} was undone: {run.undone}" for run in runs if run.undone and options.strict]


def double_cost(model: ir.Model) -> float:
    """What a proof in float64 takes, as a share of what a compile allows for it."""
    weights = sum(
        value.const_value.nbytes
        for value in model.graph.initializers.values()
        if value.const_value is not None and any(use.node.op_type != "Gather" for use in value.uses())
    )
    places = 0
    for node in model.graph.all_nodes():
        shape = node.inputs[1].shape if node.op_type == "Conv" and node.inputs[1] is not None else None
        if shape is not None and constant_array(node.inputs[1]) is not None:
            sizes = [size if isinstance(size, int) else 1 for size in shape[2:]]
            product = 1
            for size in sizes:
                product *= size
            places += product
    return max(weights / DOUBLE_BYTES, places / DOUBLE_PLACES)
