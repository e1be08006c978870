"""The result on a terminal: what became of the model, how well it fits, what stayed float, within 80 columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from qcompiler.diagnostics import Severity
from qcompiler.report import float_nodes, graph_document, precisions_of, quantized_by_op, worst

if TYPE_CHECKING:
    from qcompiler.certification.certificate import Certificate
    from qcompiler.evaluation.compare import TensorFidelity
    from qcompiler.evaluation.verify import Verification
    from qcompiler.result import CompileResult

_WIDTH = 80
_TOP = 4
_NAME_WIDTH = 38


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave the reader that went away (`| head`) to the command line; rich would exit with status 1."""
        raise BrokenPipeError


def console(file: IO[str] | None = None) -> Console:
    """stdout or `file`, 80 columns wide; plain text where it is no terminal."""
    return _Console(width=_WIDTH, highlight=False, soft_wrap=False, file=file)


def show_result(result: CompileResult, output: Path | None, *, seconds: float, verbose: int = 0) -> None:
    """The table after a compile."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, lines in _sections(result, output, seconds, verbose):
        for index, line in enumerate(lines):
            table.add_row(label if index == 0 else "", line)
    out = console()
    out.print(table)
    if result.verification:
        out.print(_fidelity_table(result))
    layers = worst(
        result.verification.get("host", result.verification.get("model", _EMPTY)).layers, _TOP if not verbose else 20
    )
    if layers:
        out.print(_layer_table(layers))


def show_plan(result: CompileResult) -> None:
    """Every quantized node with its activation scales, and every float one with its reason (for a dry run)."""
    out = console()
    for name, inputs in result.plan.nodes.items():
        weights = sorted(result.plan.weights.get(name, {}))
        out.print(
            f"int8   {escape(name)}: inputs {list(inputs)}" + (f", weights {weights}" if weights else ""),
            soft_wrap=True,
        )
    for item in float_nodes(result):
        out.print(f"float  {escape(item['name'])}: {escape(item['reason'])}", soft_wrap=True)


def show_verification(found: Verification) -> None:
    """The table of `qcompile verify`."""
    out = console()
    names = {first: second for first, second in found.pairs if first != second}
    table = _fidelity_columns("output")
    for item in found.comparison.outputs:
        label = f"{item.name} = {names[item.name]}" if item.name in names else item.name
        table.add_row(escape(_shortened(label)), *_figures(item))
    out.print(table)
    layers = [item for item in found.comparison.layers if not item.misshapen]
    bounds = [
        f"{found.min_sqnr:g} dB" if found.min_sqnr is not None else "",
        f"cosine {found.min_cosine:g}" if found.min_cosine is not None else "",
    ]
    out.print(
        f"{found.comparison.samples} samples, {len(layers)} inner tensors of the same name, "
        f"bound {' and '.join(filter(None, bounds))}"
    )
    if found.first is None:
        out.print("no tensor diverges")
    else:
        out.print(
            f"first tensor that diverges: {escape(found.first.name)} ({_decibels(found.first.sqnr)} dB)", soft_wrap=True
        )


def show_certificate(found: Certificate) -> None:
    """The lines of `qcompile certify`."""
    out = console()
    out.print(f"{found.calibration} calibration and {found.random} random samples, {found.arithmetic}, "
              f"bound {found.bound:.1e}")  # fmt: skip
    for word, item in (("outputs", found.outputs), ("worst", found.worst), ("first", found.first)):
        if item is not None:
            line = f"{word:<8} {escape(item.name)}: {item.difference:.1e} of its largest magnitude ({item.sample})"
            out.print(line, soft_wrap=True)
    for note in found.notes:
        out.print(f"note     {escape(note)}", soft_wrap=True)
    out.print("equal within the bound" if found.holds else "[bold red]different[/]")


def _sections(
    result: CompileResult, output: Path | None, seconds: float, verbose: int
) -> Iterable[tuple[str, list[str]]]:
    target = result.target
    yield "target", [escape(f"{target.name}: {target.title}")]
    yield "output", _output_lines(output)
    yield "size", [_size_line(result)]
    yield "int8", [_quantized_line(result)]
    yield "bits", _precision_lines(result)
    yield "float", _float_lines(result, verbose)
    yield "kernels", _kernel_lines(result)
    if result.certificates:
        yield "rewrites", _certificate_lines(result.certificates)
    yield "calibration", _calibration_lines(result.calibration)
    if result.check:
        yield "NVIDIA", _check_lines(result.check)
    warnings = Counter(item.severity.value for item in result.diagnostics)
    if warnings["warning"] or warnings["error"]:
        yield "findings", [f"{warnings['error']} errors, {warnings['warning']} warnings (-v lists them)"]
    hints = [item for item in result.diagnostics if item.severity is Severity.INFO and item.where.startswith("--")]
    if hints:
        yield "hint", [escape(f"{item.message}: {item.hint}") for item in hints]
    slowest = sorted(result.seconds.items(), key=lambda item: -item[1])[:_TOP]
    yield (
        "time",
        [
            f"{seconds:.1f} s"
            + (" (" + ", ".join(f"{name} {value:.1f}" for name, value in slowest) + ")" if slowest else "")
        ],
    )


def _output_lines(output: Path | None) -> list[str]:
    if output is None:
        return ["nothing written"]
    files = [path for path in sorted(output.iterdir()) if path.is_file() and path.suffix in (".onnx", ".data")]
    return [escape(f"{output}/"), ", ".join(f"{path.name} {_bytes(path.stat().st_size)}" for path in files)]


def _size_line(result: CompileResult) -> str:
    before, after = (graph_document(model)["weight_bytes"] for model in (result.reference, result.model))
    return f"weights {_bytes(before)} to {_bytes(after)}" + (
        f" ({before / after:.1f}x smaller)" if 0 < after < before else ""
    )


def _quantized_line(result: CompileResult) -> str:
    counts = quantized_by_op(result)
    return (
        ", ".join(f"{op} {item['quantized']}/{item['total']}" for op, item in counts.items()) or "[bold red]nothing[/]"
    )


def _precision_lines(result: CompileResult) -> list[str]:
    lines = [f"{row['precision']}: {row['nodes']} nodes; {row['note']}" for row in precisions_of(result)]
    kinds = Counter((item.heads[0].kind, item.heads[0].bits) for item in result.plan.lookups.values())
    note = "a lookup table models their accuracy, and is slower than a uniform grid"
    lines += [f"{count} softmax outputs: {bits} bits, {kind}; {note}" for (kind, bits), count in kinds.items()]
    return lines or ["none"]


def _float_lines(result: CompileResult, verbose: int) -> list[str]:
    reasons = Counter(item["reason"] for item in float_nodes(result))
    common = reasons.most_common(None if verbose else _TOP)
    lines = [f"{count} x {escape(reason)}" for reason, count in common]
    hidden = len(reasons) - len(common)
    return (
        [*lines, f"and {hidden} more reasons (-v, report.json)"]
        if hidden > 0
        else lines or ["nothing that could be int8"]
    )


def _certificate_lines(certificates: Sequence[Certificate]) -> list[str]:
    """One line where all hold, the culprits besides where not."""
    passes = dict.fromkeys(name for item in certificates if item.holds for name in item.passes)
    worst = max((item.outputs.difference for item in certificates if item.holds and item.outputs), default=0.0)
    means = dict.fromkeys(item.arithmetic for item in certificates)
    line = f"{len(passes)} proven in {' and '.join(means)}, largest difference {worst:.1g} of the output"
    lies = [f"[bold red]{escape(', '.join(item.passes))} undone:[/] {escape(item.reason)}"
            for item in certificates if not item.holds]  # fmt: skip
    return [line, *lies]


def _kernel_lines(result: CompileResult) -> list[str]:
    lines = []
    for name, facts in result.facts.items():
        leftovers = facts.get("leftovers")
        words = [
            f"{key.replace('_', ' ')} {value}"
            for key, value in facts.items()
            if isinstance(value, int) and not isinstance(value, bool)
        ]
        if leftovers is not None:
            words.append(f"[bold red]{len(leftovers)} leftovers[/]" if leftovers else "0 leftovers")
        if words:
            lines.append(f"{'model' if name == 'model' else name}.onnx: {', '.join(words[:5])}")
    return lines or ["not counted"]


def _calibration_lines(calibration: Mapping[str, Any]) -> list[str]:
    source, samples = calibration.get("source", "?"), calibration.get("samples", "?")
    line = escape(f"{source}: {samples} samples, {calibration.get('method', '?')}")
    if calibration.get("held_back"):
        line += f", {calibration['held_back']} held back to verify"
    if source == "synthetic":
        return [
            f"[bold red]{line}[/]",
            "[bold red]WARNING: synthetic inputs give poor scales. Pass real samples with --calib[/]",
        ]
    return [line]


def _check_lines(check: Mapping[str, Any]) -> list[str]:
    verdict = str(check.get("verdict", "?"))
    colour = {"accepted": "green", "refused": "bold red"}.get(verdict, "yellow")
    messages = [str(line) for line in check.get("messages", ())][:2] if verdict != "accepted" else []
    return [f"[{colour}]{escape(verdict)}[/] {escape(str(check.get('tool', '')))}".rstrip(), *map(escape, messages)]


def _fidelity_table(result: CompileResult) -> Table:
    samples = max(item.samples for item in result.verification.values())
    table = _fidelity_columns(f"output against float, {samples} samples")
    several = len(result.verification) > 1
    for artifact, comparison in result.verification.items():
        for item in comparison.outputs:
            label = f"{_ARTIFACTS.get(artifact, artifact)}: {item.name}" if several else item.name
            table.add_row(escape(_shortened(label)), *_figures(item))
    return table


def _layer_table(layers: Iterable[TensorFidelity]) -> Table:
    items = list(layers)
    prefix = _common_prefix([item.name for item in items])
    table = _fidelity_columns("worst layers")
    for item in items:
        table.add_row(escape(_shortened(item.name[len(prefix) :])), *_figures(item))
    return table


def _fidelity_columns(title: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", width=_WIDTH)
    table.add_column(title, overflow="ellipsis", no_wrap=True, ratio=1)
    for name in ("SQNR dB", "cosine", "max error", "agree"):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _figures(item: TensorFidelity) -> tuple[str, str, str, str]:
    agreement = "" if item.agreement is None else f"{item.agreement:.2%}"
    if item.integer:
        return "", "", f"{item.max_error:.3g}", agreement
    broken = " [bold red]NaN/Inf[/]" if item.broken else " [bold red]shape[/]" if item.misshapen else ""
    return _decibels(item.sqnr), f"{item.cosine:.5f}", f"{item.max_error:.3g}{broken}", agreement


def _common_prefix(names: list[str]) -> str:
    """The leading scopes that all names share."""
    first, last = min(names), max(names)
    length = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    return first[:length].rpartition("/")[0]


def _shortened(name: str) -> str:
    """A long name without its middle: the start tells layers apart, the end nodes."""
    if len(name) <= _NAME_WIDTH:
        return name
    head = _NAME_WIDTH // 3
    return f"{name[:head]}…{name[head + 1 - _NAME_WIDTH :]}"


def _decibels(value: float) -> str:
    return "exact" if value == float("inf") else f"{value:.1f}"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


class _Empty:
    layers: tuple[TensorFidelity, ...] = ()


_EMPTY: Any = _Empty()
_ARTIFACTS = {"model": "model.onnx", "host": "host.onnx", "host_against_model": "host against model"}
