"""Looking at channel ranges around the float rewrites that change them, where such rewrites are asked for."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.calibration.data import Source
from qcompiler.calibration.first_samples import first_samples, why_not_measured
from qcompiler.calibration.layer_ranges import SAMPLES, ChannelChange, LayerInput, channel_changes, layer_ranges
from qcompiler.errors import CalibrationError
from qcompiler.options import CompileOptions
from qcompiler.plan import QuantPlan
from qcompiler.session import Feeds


class RangeWatch:
    """Ranges before the rewrites, and then what changed; nothing is run where no rewrite is asked for."""

    def __init__(self, model: ir.Model, source: Source, options: CompileOptions) -> None:
        self._threads = options.threads
        self._feeds: list[Feeds] = []
        self._before: dict[str, LayerInput] = {}
        if _asked_for(options) and not why_not_measured(model, source):
            self._feeds = list(first_samples(model, source, SAMPLES, held_back=options.validate is None))
            self._before = self._look(model)

    def changes(self, model: ir.Model) -> tuple[ChannelChange, ...]:
        """What changed between the model then and this one."""
        return channel_changes(self._before, self._look(model)) if self._before else ()

    def _look(self, model: ir.Model) -> dict[str, LayerInput]:
        try:
            return layer_ranges(model, self._feeds, threads=self._threads)
        except CalibrationError:  # NaN in a layer that stays float stops no compile; calibration names it otherwise
            return {}


def _asked_for(options: CompileOptions) -> bool:
    if options.plan is not None:
        plan = QuantPlan.load(options.plan)
        return bool(plan.equalize or plan.rotate)
    return options.equalize != "none" or options.rotate != "none"
