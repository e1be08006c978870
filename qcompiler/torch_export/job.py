"""All that one export needs to know about a module; attempts leave their faults here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from qcompiler.errors import UsageError
from qcompiler.torch_export.adapter import Adapter
from qcompiler.torch_export.dynamic_axes import Axes
from qcompiler.torch_export.reference import Trial


@dataclass(slots=True)
class Job:
    """One module with its inputs.

    Attributes:
        tensors: Names and example tensors.
        traced: The same at the sizes that exporters see.
        trials: What torch gives; the example's first.
        failures: One line for each attempt without result.
        notes: What else the user should know.
    """

    adapter: Adapter
    tensors: Sequence[tuple[str, Tensor]]
    traced: Sequence[tuple[str, Tensor]]
    axes: Axes
    trials: list[Trial]
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def rename_outputs(self, names: Sequence[str] | None) -> None:
        """The first outputs get `names`; every name that an input bears too gets an ending.

        Raises:
            UsageError: More names than outputs, or doubles.
        """
        own = list(self.trials[0].expected or {})
        given = [] if names is None else [str(name) for name in names]
        if len(given) > len(own):
            raise UsageError(f"{len(given)} output names for {len(own)} outputs", hint=f"they are {', '.join(own)}")
        inputs = {name for name, _ in self.tensors}
        new = [*given, *own[len(given) :]]
        new = [f"{name}_out" if name in inputs else name for name in new]
        if len(set(new)) != len(new):
            raise UsageError(f"two outputs have one name: {', '.join(new)}", hint="give output_names")
        self.trials = [
            trial if trial.expected is None
            else replace(trial, expected=dict(zip(new, trial.expected.values(), strict=True)))
            for trial in self.trials
        ]  # fmt: skip
