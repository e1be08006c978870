"""The order of rewriting recurrences."""

from __future__ import annotations

from qcompiler.passes.cleanup.drop_no_ops import DropNoOps
from qcompiler.passes.cleanup.drop_unused import DropUnused
from qcompiler.passes.cleanup.merge_equal_nodes import MergeEqualNodes
from qcompiler.passes.cleanup.sort_nodes import SortNodes
from qcompiler.passes.normalize.infer_shapes import InferShapes
from qcompiler.passes.normalize.lift_constants import LiftConstants
from qcompiler.passes.normalize.name_everything import NameEverything
from qcompiler.passes.normalize.settle_shapes import SettleShapes
from qcompiler.passes.recurrence.chunk_scan import ChunkScan
from qcompiler.passes.recurrence.chunks_to_scan import ChunksToScan
from qcompiler.passes.recurrence.gather_to_squeeze import GatherToSqueeze
from qcompiler.passes.recurrence.group_factors import GroupFactors
from qcompiler.passes.recurrence.hoist_from_scan import HoistFromScan
from qcompiler.passes.recurrence.lay_channels_last import LayChannelsLast
from qcompiler.passes.recurrence.loop_to_scan import LoopToScan
from qcompiler.passes.recurrence.parallel_to_scan import ParallelToScan
from qcompiler.passes.recurrence.recognise_recurrences import RecogniseRecurrences
from qcompiler.passes.recurrence.roll_up_steps import RollUpSteps
from qcompiler.passes.recurrence.sink_into_scan import SinkIntoScan
from qcompiler.passes.recurrence.time_first import TimeFirst
from qcompiler.pipeline import Pass
from qcompiler.target import ScanForm


def scan_passes() -> tuple[Pass, ...]:
    """Loops and written out steps to Scan, before normalization: it then sees few nodes in place of many thousands."""
    return (
        LiftConstants(),
        SortNodes(),
        NameEverything(),
        InferShapes(),  # axes counted from the end
        DropNoOps(),  # Casts between the steps
        RollUpSteps(),
        DropUnused(),
        SettleShapes(),  # how many turns a Loop takes, along which sizes
        LoopToScan(),
        LiftConstants(),
        DropUnused(),
    )


def recurrence_passes(form: ScanForm) -> tuple[Pass, ...]:
    """Selective scans of a model in canonical form, recognised and brought into the form that the target runs best."""
    layouts: list[Pass] = [ChunkScan(form.chunk)] if form.chunk else []
    if form.channels_last:
        layouts.append(LayChannelsLast())
    return (
        ParallelToScan(form.steps),
        ChunksToScan(form.steps),
        DropUnused(),  # the algorithm that the Scan replaces still reads what it reads
        GatherToSqueeze(),
        SinkIntoScan(),  # before axes move: exporters' large tensors then need not be turned
        DropNoOps(),  # copies of the state that were outputs
        DropUnused(),
        TimeFirst(),  # the rewrites know scans along the first axis
        InferShapes(),  # with the sizes that time-first wrote on bodies
        RecogniseRecurrences(),  # before: the roles are of the model's own tensors
        GroupFactors(),  # x * dt can leave the body once it is a product of its own
        HoistFromScan(),
        InferShapes(),  # the layouts ask for sizes
        *layouts,
        SettleShapes(),
        DropNoOps(),
        MergeEqualNodes(),  # what both directions of a block computed
        DropUnused(),
        InferShapes(),
        SortNodes(),
    )
