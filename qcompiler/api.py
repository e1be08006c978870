"""The Python interface: what the verbs do, as functions."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompiler.config import COMPILE_SETTINGS, nearest, to_options
from qcompiler.errors import UsageError

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from qcompiler.certification.certificate import Certificate
    from qcompiler.diagnostics import Diagnostic
    from qcompiler.diffing.difference import Difference
    from qcompiler.evaluation.verify import Verification
    from qcompiler.options import CalibrationInput, CompileOptions
    from qcompiler.progress import Progress
    from qcompiler.result import CompileResult


def compile(
    model: str | Path | onnx.ModelProto | ir.Model, target: str = "ort-cpu",
    calibration: CalibrationInput | None = None, *, progress: Progress | None = None, **options: Any,
) -> CompileResult:  # fmt: skip
    """Compile `model` for `target`; nothing is written until `.save(folder)` of the result.

    Args:
        model: An .onnx file, or a graph in memory, which is left as it is.
        calibration: A path or "module:factory", an iterable of dicts, a dict of arrays (samples along the leading
            axis), or an onnxruntime CalibrationDataReader. None means synthetic inputs, with a warning.
        progress: Told about phases; see `qcompiler.progress`.
        options: Fields of `CompileOptions`: method, exclude, min_sqnr, ...

    Returns:
        Graphs, plan and figures; bounds that were missed are lines of its `gates` and raise nothing.

    Raises:
        QcompileError: Whatever the user can fix; its `exit_code` is that of the command.
    """
    from qcompiler.driver import compile_model
    from qcompiler.reading import as_model

    given: Path | ir.Model = Path(model) if isinstance(model, (str, os.PathLike)) else as_model(model)
    return compile_model(given, make_options(target, calibration, options), progress=progress)


def make_options(target: str, calibration: CalibrationInput | None, options: dict[str, Any]) -> CompileOptions:
    """Options from keyword arguments, checked like the command line's.

    Raises:
        UsageError: An unknown option, with the nearest; a value of the wrong kind.
    """
    settings: dict[str, Any] = {"target": target, "calib": calibration}
    for name, value in options.items():
        if name not in COMPILE_SETTINGS or name in settings:
            raise UsageError(f"unknown option {name!r}", hint=nearest(name, COMPILE_SETTINGS))
        if value is not None:
            settings[name] = COMPILE_SETTINGS[name](value, name)
    return to_options(settings)


def lint(model: str | Path | onnx.ModelProto | ir.Model, target: str = "ort-cpu") -> Sequence[Diagnostic]:
    """Findings of a target's rules on any Q/DQ graph.

    Raises:
        QcompileError: The file can't be read, or there is no such target.
    """
    from qcompiler.reading import as_model
    from qcompiler.registry import find_target, make_emitter

    emitter = make_emitter(find_target(target))
    return tuple(emitter.lint(as_model(model, any_domain=True)))


def verify(
    reference: str | Path | onnx.ModelProto | ir.Model, candidate: str | Path | onnx.ModelProto | ir.Model,
    calibration: CalibrationInput | None = None, *,
    preprocess: str | None = None, max_samples: int | None = None, seed: int = 0, threads: int = 0,
    min_sqnr: float | None = None, min_cosine: float | None = None,
) -> Verification:  # fmt: skip
    """Compare two models on the same inputs; `.missed` has a line for each output under a bound, `.first` is the first
    tensor that diverges.

    Raises:
        QcompileError: A file can't be read, the data doesn't fit, inputs or outputs don't pair.
    """
    from qcompiler.calibration.data import input_specs, open_source
    from qcompiler.calibration.synthetic import synthetic_batches
    from qcompiler.evaluation.shared_inputs import with_equal_states
    from qcompiler.evaluation.verify import verify_models
    from qcompiler.reading import as_model

    first, second = with_equal_states(as_model(reference, any_domain=True), as_model(candidate, any_domain=True))
    if calibration is None:
        samples = synthetic_batches(first, samples=max_samples or 8, seed=seed)
    else:
        samples = open_source(calibration, input_specs(first), preprocess=preprocess, max_samples=max_samples)
    return verify_models(first, second, samples, min_sqnr=min_sqnr, min_cosine=min_cosine, threads=threads)


def certify(
    first: str | Path | onnx.ModelProto | ir.Model, second: str | Path | onnx.ModelProto | ir.Model,
    calibration: CalibrationInput | None = None, *, samples: int = 2, preprocess: str | None = None,
    max_samples: int | None = None, seed: int = 0, threads: int = 0,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Certificate:  # fmt: skip
    """Prove that two float models compute the same, on random inputs and on `calibration`: `.holds`, or `.reason`.

    Args:
        samples: Random inputs, every second with two rows.
        max_samples: Calibration samples to read at most; None means 4.
        shapes: Input name to shape, for random inputs.

    Raises:
        QcompileError: A file can't be read, the interfaces differ, the data doesn't fit.
    """
    from qcompiler.calibration.data import input_specs, open_source
    from qcompiler.certification.certify import certify_models
    from qcompiler.reading import as_model

    one, other = as_model(first, any_domain=True), as_model(second, any_domain=True)
    real = [] if calibration is None else list(
        open_source(calibration, input_specs(one), preprocess=preprocess, max_samples=max_samples or 4)
    )  # fmt: skip
    return certify_models(one, other, real, samples=samples, seed=seed, shapes=shapes or None, threads=threads)


def diff(
    first: str | Path | onnx.ModelProto | ir.Model, second: str | Path | onnx.ModelProto | ir.Model, *,
    fail_on: str = "weights", calibration: CalibrationInput | None = None, target: str | None = None,
    rtol_scale: float = 0.01,
) -> Difference:  # fmt: skip
    """What changed between two models, bundles or plans: `.level`, `.fails`, `.sections`; see docs/diff.md.

    Args:
        fail_on: The least level that fails.
        calibration: Inputs for both models, whose outputs are then compared.
        target: Whose rules lint.
        rtol_scale: Largest relative move of a scale that is no change.

    Raises:
        QcompileError: A file can't be read, there is no such level or target, the data doesn't fit.
    """
    from qcompiler.calibration.data import input_specs, open_source
    from qcompiler.diffing.changes import parse_level
    from qcompiler.diffing.compare import DiffOptions, compare_sides
    from qcompiler.diffing.sides import as_side

    samples = None if calibration is None else lambda model: open_source(calibration, input_specs(model))
    options = DiffOptions(parse_level(fail_on, "fail_on"), tolerance=rtol_scale, target=target, samples=samples)
    return compare_sides(as_side(first), as_side(second), options)
