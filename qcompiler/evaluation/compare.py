"""Fidelity of one model to another on the same inputs: SQNR, cosine, maximum error, agreement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

    from qcompiler.options import CompileOptions
    from qcompiler.session import Feeds


@dataclass(frozen=True, slots=True)
class TensorFidelity:
    """How close one tensor is to its reference over all samples.

    Attributes:
        sqnr: 10 log10(sum of reference squared / sum of error squared), in dB; infinite where equal.
        cosine: Mean over samples of the cosine of the flattened tensors.
        max_error: Largest absolute difference.
        agreement: Share of equal arg-max along the last axis; None where the last axis has one element. For integer,
            bool and text tensors the share of equal elements.
        integer: The reference isn't a float tensor; sqnr, cosine and max_error then only say whether all are equal.
        broken: Samples with NaN or Inf where the reference hasn't the same.
        misshapen: Batches where the candidate has another shape.
    """

    name: str
    sqnr: float
    cosine: float
    max_error: float
    agreement: float | None = None
    integer: bool = False
    broken: int = 0
    misshapen: int = 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Fidelity by output, and by inner tensor in graph order.

    Attributes:
        layers: Outputs of quantized nodes present in both models, where the error arises.
    """

    samples: int
    outputs: tuple[TensorFidelity, ...]
    layers: tuple[TensorFidelity, ...] = ()


def compare(
    reference: ir.Model, candidate: ir.Model, batches: Iterable[Feeds], *, layers: Sequence[str] = (), threads: int = 0
) -> Comparison:
    """Run both models over `batches` once and compare tensors of the same name.

    Only sums are kept from batch to batch. A sample is one row where all inputs share their leading size and the
    tensor has it too, else one batch.

    Args:
        layers: Inner values to compare besides the outputs; those missing in either model are passed over.

    Raises:
        ModelError: onnxruntime refuses a model.
        UsageError: The models have no output name in common.
    """
    from qcompiler.evaluation.pairing import Pairing
    from qcompiler.evaluation.run import run_comparison

    return run_comparison(reference, candidate, batches, Pairing.by_name(reference, candidate, layers), threads=threads)


def compare_emitted(
    reference: ir.Model,
    model: ir.Model,
    host: ir.Model | None,
    batches: Iterable[Feeds],
    *,
    layers: Sequence[str] = (),
    threads: int = 0,
) -> dict[str, Comparison]:
    """The comparisons of a compile, each model run once per batch.

    Returns:
        "model" and, where there is one, "host" against the reference, and "host_against_model".

    Raises:
        As `compare`.
    """
    from qcompiler.evaluation.pairing import Pairing
    from qcompiler.evaluation.run import run_comparisons

    # with a host beside it the model is another runtime's: onnxruntime shows its arithmetic only without fusions, whose
    # 8-bit kernels saturate on processors that lack dot-product instructions
    plain = frozenset() if host is None else frozenset({"model"})
    models = {"reference": reference, "model": model}
    pairings = {"model": ("reference", "model", Pairing.by_name(reference, model, layers))}
    if host is not None:
        models["host"] = host
        pairings["host"] = ("reference", "host", Pairing.by_name(reference, host, layers))
        pairings["host_against_model"] = ("host", "model", Pairing.by_name(host, model))
    return run_comparisons(models, pairings, batches, threads=threads, plain=plain)


def missed_gates(comparisons: Iterable[tuple[str, Comparison]], options: CompileOptions) -> tuple[str, ...]:
    """A line for each float output under a bound of the user; one, too, where there is no float output to judge.

    Args:
        comparisons: Pairs of artifact and comparison; only "model" and "host", against the float model, are judged.
    """
    lines = []
    for artifact, comparison in comparisons:
        if artifact not in ("model", "host") or (options.min_sqnr is None and options.min_cosine is None):
            continue
        if all(item.integer for item in comparison.outputs):
            lines.append(f"{artifact}: no output is a float tensor that a bound could hold for")
        found = under_bounds(comparison.outputs, options.min_sqnr, options.min_cosine)
        lines += [f"{artifact}: {line}" for line in found]
    return tuple(lines)


def under_bounds(tensors: Iterable[TensorFidelity], min_sqnr: float | None, min_cosine: float | None) -> list[str]:
    """A line for each float tensor under a bound; not-a-number is under every bound."""
    lines = []
    for item in tensors:
        if item.integer:
            continue
        if min_sqnr is not None and not item.sqnr >= min_sqnr:
            lines.append(f"output {item.name!r} has SQNR {item.sqnr:.2f} dB, below {min_sqnr:g}")
        if min_cosine is not None and not item.cosine >= min_cosine:
            lines.append(f"output {item.name!r} has cosine {item.cosine:.5f}, below {min_cosine:g}")
    return lines
