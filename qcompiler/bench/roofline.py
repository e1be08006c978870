"""The roofline (Williams, Waterman, Patterson 2009): a kernel takes at least its bytes over the bandwidth, and at least
its operations over the peak rate; the larger of the two bounds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcompiler.bench.boards import Board
from qcompiler.bench.regions import Region

ASSUMPTIONS = (
    "every kernel reaches the board's peak rates, at its highest clocks and with nothing else running: the times are "
    "lower bounds, and no Jetson was measured",
    "what one kernel writes the next reads from memory: the GPU's cache of 2 to 4 MB keeps nothing between kernels",
    "fused are elementwise nodes behind what makes their input, Q into what precedes and DQ into what follows it",
    "attention is not fused: its scores are written and read, which a fused kernel saves",
    "layout changes that move nothing are free, a Transpose is a kernel, and launching a kernel costs nothing (it "
    "takes microseconds: small models are slower than this)",
    "floats are FP16 (2 bytes) between kernels; products of int8 inputs run at the INT8 rate, all others at FP16's",
    "dense rates: weights are not pruned to 2:4",
)
SUPPOSED = "the graph has no Q/DQ: for INT8, all Conv, Gemm and MatMul with a constant weight count as quantized"


@dataclass(frozen=True, slots=True)
class Bound:
    """A region's least time in seconds and what bounds it: "matrix", "vector" or "memory"."""

    region: Region
    seconds: float
    by: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bounds of all regions on one board."""

    board: Board
    bounds: tuple[Bound, ...]

    @property
    def seconds(self) -> float:
        """Least time of a run."""
        return sum(item.seconds for item in self.bounds)

    def share(self, by: str) -> float:
        """Share of that time in regions that are bound by `by`."""
        return sum(item.seconds for item in self.bounds if item.by == by) / self.seconds if self.seconds else 0.0


def estimate(regions: Sequence[Region], board: Board) -> Estimate:
    """Bounds of each region."""
    return Estimate(board, tuple(_bound(region, board) for region in regions))


def _bound(region: Region, board: Board) -> Bound:
    times = {
        "matrix": region.matrix / (board.int8 if region.integer else board.fp16),
        "vector": region.vector / board.vector,
        "memory": region.bytes / board.bandwidth,
    }
    by = max(times, key=lambda name: times[name])
    return Bound(region, times[by], by)
