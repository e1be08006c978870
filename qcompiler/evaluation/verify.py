"""Any two models on the same inputs: outputs, inner tensors of the same name, the first that diverges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.evaluation.compare import Comparison, TensorFidelity, under_bounds
from qcompiler.evaluation.pairing import Pairing
from qcompiler.evaluation.run import run_comparison
from qcompiler.session import Feeds

DEFAULT_MIN_SQNR = 20.0


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify` found.

    Attributes:
        pairs: Outputs compared, as (reference, candidate) names.
        first: The first inner tensor or output, in the reference's graph order, under the bounds; None where all hold.
        missed: A line for each output under a bound.
    """

    comparison: Comparison
    pairs: tuple[tuple[str, str], ...]
    min_sqnr: float | None
    min_cosine: float | None
    first: TensorFidelity | None
    missed: tuple[str, ...]


def verify_models(
    reference: ir.Model, candidate: ir.Model, batches: Iterable[Feeds], *,
    min_sqnr: float | None = None, min_cosine: float | None = None, threads: int = 0,
) -> Verification:  # fmt: skip
    """Compare two models; without any bound, outputs must reach 20 dB.

    Integer outputs must be equal where no float output is compared. Inner tensors whose shapes differ share no more
    than a name and are passed over.

    Raises:
        UsageError: Inputs or outputs don't pair.
        ModelError: onnxruntime refuses a model.
    """
    if min_sqnr is None and min_cosine is None:
        min_sqnr = DEFAULT_MIN_SQNR
    pairing = Pairing.of_any(reference, candidate)
    found = run_comparison(reference, candidate, batches, pairing, threads=threads)
    alike = tuple(item for item in found.layers if not item.misshapen)
    first = next((item for item in (*alike, *found.outputs) if _diverges(item, min_sqnr, min_cosine)), None)
    missed = under_bounds(found.outputs, min_sqnr, min_cosine)
    if all(item.integer for item in found.outputs):
        missed += [
            f"output {item.name!r} agrees in {item.agreement:.2%} of its elements"
            for item in found.outputs
            if item.agreement is not None and item.agreement < 1
        ]
    return Verification(found, pairing.outputs, min_sqnr, min_cosine, first, tuple(missed))


def _diverges(item: TensorFidelity, min_sqnr: float | None, min_cosine: float | None) -> bool:
    if item.integer:
        return item.agreement is not None and item.agreement < 1
    return bool(under_bounds((item,), min_sqnr, min_cosine))
