"""Compare two models, bundles or plans."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from qcompiler.diffing.changes import Change, Level, Section
from qcompiler.diffing.difference import Difference
from qcompiler.diffing.sides import Side
from qcompiler.errors import UsageError

if TYPE_CHECKING:
    import onnx_ir as ir

    from qcompiler.session import Feeds

DEFAULT_TARGET = "orin"
"""Its rules are read off the graph; those of ort-cpu run onnxruntime's optimizer, which takes long on large graphs."""


@dataclass(frozen=True, slots=True)
class DiffOptions:
    """What counts and what is shown.

    Attributes:
        fail_on: The least level that fails.
        ignored: Levels whose changes are dropped.
        tolerance: Largest relative move of a scale that is no change.
        target: Whose rules lint; None means that of a bundle, else orin.
        quantization_only: Compare nothing but quantization.
        samples: Inputs for the numeric section, from the first model; None leaves it out.
        threads: For onnxruntime.
    """

    fail_on: Level = Level.WEIGHTS
    ignored: frozenset[Level] = frozenset()
    tolerance: float = 0.01
    target: str | None = None
    quantization_only: bool = False
    samples: Callable[[ir.Model], Iterable[Feeds]] | None = None
    threads: int = 0


def compare_sides(first: Side, second: Side, options: DiffOptions) -> Difference:
    """All sections.

    Raises:
        UsageError: A plan against something that has none; no such target.
        QcompileError: Samples that don't fit, a model that onnxruntime refuses.
    """
    sections: list[Section] = []
    if first.model is not None and second.model is not None:
        target = options.target or str(second.manifest.get("target") or DEFAULT_TARGET)
        sections = _model_sections(first.model, second.model, target, options)
    else:
        for side in (first, second):
            if side.plan is None:
                raise UsageError("has no plan to compare", where=side.label, hint="give two plans, models or bundles")
        sections = [Section("quantization")]
    sections = [_with_plans(section, first, second, options) for section in sections]
    if options.quantization_only:
        sections = [section for section in sections if section.name == "quantization"]
    kept = tuple(section.without(options.ignored) for section in sections)
    return Difference(first.label, second.label, kept, options.fail_on)


def _model_sections(first: ir.Model, second: ir.Model, target: str, options: DiffOptions) -> list[Section]:
    from qcompiler.diffing.interface import interface_section
    from qcompiler.diffing.lint_delta import lint_section
    from qcompiler.diffing.match import match
    from qcompiler.diffing.names import names_section, partners
    from qcompiler.diffing.operator_counts import operators_section
    from qcompiler.diffing.quantization import quantization_section
    from qcompiler.diffing.skeleton import Skeleton
    from qcompiler.diffing.structure import structure_section
    from qcompiler.diffing.weights import weights_section

    matching = match(Skeleton(first), Skeleton(second))
    quantization = quantization_section(matching, options.tolerance)
    if options.quantization_only:
        return [quantization]
    weights = weights_section(matching)
    structure = structure_section(matching, explained=bool(quantization.changes))
    operands = tuple(item for item in weights.changes if item.level is Level.STRUCTURE)
    structure = replace(structure, changes=(*structure.changes, *operands))
    weights = replace(weights, changes=tuple(item for item in weights.changes if item not in operands))
    sections = [
        interface_section(matching), operators_section(first, second), quantization, weights, structure,
        names_section(matching), lint_section(first, second, target, partners(matching)),
    ]  # fmt: skip
    if options.samples is not None:
        from qcompiler.diffing.numeric import numeric_section
        from qcompiler.evaluation.shared_inputs import with_equal_states

        one, other = with_equal_states(first, second)
        sections.append(numeric_section(one, other, options.samples(one), options.threads))
    return sections


def _with_plans(section: Section, first: Side, second: Side, options: DiffOptions) -> Section:
    """The section on quantization with what plans and recipes add."""
    if section.name != "quantization":
        return section
    changes: list[Change] = list(section.changes)
    if first.plan is not None and second.plan is not None:
        from qcompiler.diffing.plans import plan_changes

        changes += plan_changes(first.plan, second.plan, options.tolerance)
    notes, facts = list(section.notes), dict(section.facts)
    if first.manifest and second.manifest:
        from qcompiler.diffing.recipes import recipe_lines

        lines, facts["recipe"] = recipe_lines(first.manifest, second.manifest)
        notes += lines
    return Section(section.name, tuple(changes), tuple(notes), facts, section.rows)
