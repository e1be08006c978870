"""One calibration set by what the user calls it: a path, a factory, or the word `synthetic`."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.analysis.options import SYNTHETIC
from qcompiler.calibration.data import Source, open_source
from qcompiler.calibration.inputs import input_specs
from qcompiler.calibration.synthetic import synthetic_batches
from qcompiler.diagnostics import DiagnosticLog, Severity
from qcompiler.options import CalibrationInput, CompileOptions

SYNTHETIC_SAMPLES = 16


def open_set(
    data: CalibrationInput, model: ir.Model, options: CompileOptions, log: DiagnosticLog, name: str = ""
) -> Source:
    """The set; made up inputs are a warning in `log` under `name`.

    Raises:
        CalibrationError: The data is missing, misshapen or not finite.
    """
    if isinstance(data, str) and data == SYNTHETIC:
        log.add("QC202", Severity.WARNING, name, "synthetic inputs: nothing here holds for real data", "give --calib D")
        shapes = {key: profile[1] for key, profile in options.shapes.items()}
        count = options.max_samples or SYNTHETIC_SAMPLES
        return synthetic_batches(model, samples=count, seed=options.seed, shapes=shapes or None)
    return open_source(data, input_specs(model), preprocess=options.preprocess, max_samples=options.max_samples)
