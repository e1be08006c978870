"""Section "numeric": both models on the same inputs."""

from __future__ import annotations

import math
from collections.abc import Iterable

import onnx_ir as ir

from qcompiler.diffing.changes import Section
from qcompiler.diffing.words import shortened
from qcompiler.errors import UsageError
from qcompiler.evaluation.compare import TensorFidelity
from qcompiler.session import Feeds


def numeric_section(first: ir.Model, second: ir.Model, samples: Iterable[Feeds], threads: int) -> Section:
    """SQNR, cosine and agreement of each output with that of the first model.

    Raises:
        ModelError: onnxruntime refuses a model.
        CalibrationError: The samples don't fit the first model.
    """
    from qcompiler.evaluation.pairing import Pairing
    from qcompiler.evaluation.run import run_comparison
    from qcompiler.report import fidelity_document

    try:
        pairing = Pairing.of_any(first, second)
    except UsageError as error:
        return Section("numeric", (), (f"not run: {error.message}",), {"samples": 0, "outputs": []})
    pairing = Pairing(pairing.inputs, pairing.outputs)  # outputs only
    found = run_comparison(first, second, samples, pairing, threads=threads)
    notes = [f"{found.samples} samples, the first model is the reference"]
    notes += [_line(item) for item in found.outputs]
    facts = {"samples": found.samples, "outputs": [fidelity_document(item) for item in found.outputs]}
    return Section("numeric", (), tuple(notes), facts)


def _line(item: TensorFidelity) -> str:
    name = shortened(item.name)
    if item.misshapen:
        return f"{name}: another shape on {item.misshapen} batches"
    agreement = "" if item.agreement is None else f", agreement {item.agreement:.2%}"
    if item.integer:
        return f"{name}{agreement.replace(', ', ': ')}"
    if math.isinf(item.sqnr) and item.sqnr > 0:
        return f"{name}: bit-equal{agreement}"
    return f"{name}: SQNR {item.sqnr:.1f} dB, cosine {item.cosine:.5f}{agreement}"
