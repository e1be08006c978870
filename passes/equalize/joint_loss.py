"""The error that integers make where the layers that read a tensor work together: behind attention, behind a gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from qcompiler.graph import constant_array
from qcompiler.passes.equalize.fold_shift_scale import ShiftScale
from qcompiler.passes.equalize.joint_region import JointRegion, joint_region
from qcompiler.passes.equalize.joint_samples import JointSamples, Rows, Seen
from qcompiler.passes.equalize.loss import COMMON, SMALLEST_SIGNAL, largest_codes, rounded
from qcompiler.passes.equalize.trial_grid import CLIPS
from qcompiler.passes.sites.records import Reals, Site
from qcompiler.precision import Precisions
from qcompiler.session import Arrays, Feeds, Session

BUDGET = 16_000_000_000
"""Multiply-adds for all candidates of one site. Where samples are long fewer of them are taken, then fewer candidates;
never less than one sample and one candidate of each method."""
ROUNDING = 1000
"""What putting one weight on its grid costs, in multiply-adds."""
FEWEST_CANDIDATES = 8
"""Samples are given up for so many."""


class JointLoss:
    """|T(Q((x - z) / s) Q(diag(s) W) + z W) - T(x W)|^2 over |T(x W) - mean|^2, averaged over rows.

    T is what all readers make together: softmax(Q K^T) V in front of the output projection, act(gate) * up in front of
    the down projection (arXiv:2304.09145, section 4.2). All between the readers and T is float, queries, keys and
    values too. Rows, clipping and the weight of a common error are as in `SiteLoss`.

    Args:
        seen: What samples show there; those are taken that `BUDGET` has room for.
        precisions: Bits by reader.

    Attributes:
        candidates: How many `BUDGET` has room for.
    """

    def __init__(
        self, region: JointRegion, site: Site, seen: Sequence[Seen], precisions: Precisions, *, threads: int = 0
    ) -> None:
        self._region, self._session = region, Session(region.model, threads=threads)
        self._biases = [_own_bias(reader.node) for reader in site.readers]
        parts = [reader.matrix() for reader in site.readers]
        self._ends = np.cumsum([part.shape[1] for part in parts])
        self._matrix: Reals = np.concatenate(parts, axis=1)
        self._qmax, largest = largest_codes(site, precisions)
        self._weight_qmax = np.repeat(largest, [part.shape[1] for part in parts])
        self._seen, self.candidates = _within_budget(seen, parts)
        self._reads = [dict(zip(region.reads, item.read, strict=True)) for item in self._seen]
        self._exact = np.concatenate([item.end.flat for item in self._seen])
        signal = np.square(self._exact - self._exact.mean(0)).mean(1)
        signal = np.maximum(signal, SMALLEST_SIGNAL * float(np.median(signal)) or 1.0)
        self._worth = 1 / (signal * self._exact.size)

    def __call__(self, wanted: ShiftScale | None = None) -> float:
        """The loss; of the tensor as it is where nothing is given. Parameters are by channel of the readers."""
        channels = len(self._matrix)
        scale: Reals = np.ones(channels, np.float32) if wanted is None else wanted.scale.astype(np.float32)
        shift: Reals = np.zeros(channels, np.float32) if wanted is None else wanted.shift.astype(np.float32)
        weights = self._by_reader(rounded(self._matrix * scale[:, None], self._weight_qmax))
        offsets = self._by_reader(shift @ self._matrix)
        moved = [offset + bias for offset, bias in zip(offsets, self._biases, strict=True)]
        given: Arrays = dict(zip((*self._region.weights, *self._region.offsets), (*weights, *moved), strict=True))
        read = [
            {name: replace(rows, array=(rows.array - shift) / scale) for name, rows in item.items()}
            for item in self._reads
        ]
        top = max(float(np.abs(rows.flat).max(initial=0.0)) for item in read for rows in item.values())
        if not top:
            return 0.0
        return min(self._error(read, given, np.float32(top * clip / self._qmax)) for clip in CLIPS)

    def _error(self, read: Sequence[Mapping[str, Rows]], given: Arrays, step: np.float32) -> float:
        errors, first = np.empty_like(self._exact), 0
        for item, moved in zip(self._seen, read, strict=True):
            codes = {name: np.clip(np.rint(rows.array / step), -self._qmax, self._qmax) for name, rows in moved.items()}
            feeds = given | item.beside | {name: array * step for name, array in codes.items()}
            found = self._session.run(feeds)[self._session.output_names[0]]
            last = first + len(item.end.real)
            errors[first:last] = replace(item.end, array=found).flat - self._exact[first:last]
            first = last
        own = float(np.einsum("ij,ij,i->", errors, errors, self._worth))
        return own + (COMMON - 1) * float(np.square(errors.mean(0)).sum() * self._worth.sum())

    def _by_reader(self, wide: Reals) -> list[Reals]:
        return [np.ascontiguousarray(part) for part in np.split(wide, self._ends[:-1], axis=-1)]


class JointLosses:
    """The joint loss of each site that has one; sites are asked for in their order."""

    def __init__(
        self,
        model: ir.Model,
        sites: Sequence[Site],
        feeds: Sequence[Feeds],
        precisions: Precisions,
        *,
        threads: int = 0,
    ) -> None:
        self._model, self._precisions, self._threads = model, precisions, threads
        self._samples = JointSamples(model, sites, feeds, threads=threads)

    def of(self, site: Site) -> JointLoss | None:
        """None where the readers have no joint end, or it is not finite on the samples."""
        found = self._samples.of(site)
        if found is None:
            return None
        end, seen = found
        finite = [item for item in seen if len(item.end.real) and np.isfinite(item.end.flat).all()]
        if not finite:
            return None
        region = joint_region(self._model, site, end)
        return JointLoss(region, site, finite, self._precisions, threads=self._threads)


def _within_budget(seen: Sequence[Seen], parts: Sequence[Reals]) -> tuple[Sequence[Seen], int]:
    """The samples that there is room for, and how many candidates.

    A sample costs its products, and two more between all positions that stand on one axis.
    """
    rounding = ROUNDING * sum(part.size for part in parts)
    costs = [
        len(CLIPS) * (rows.array.size // len(part)) * (part.size + 2 * rows.array.shape[-2] * part.shape[1])
        for item in seen
        for rows, part in zip(item.read, parts, strict=True)
    ]
    count = len(seen)
    while count > 1 and FEWEST_CANDIDATES * (rounding + sum(costs[: count * len(parts)])) > BUDGET:
        count -= 1
    return seen[:count], BUDGET // max(1, rounding + sum(costs[: count * len(parts)]))


def _own_bias(node: ir.Node) -> Reals | np.float32:
    """Of a Gemm, which adds it itself; that of a MatMul stands among the nodes behind."""
    array = constant_array(node.inputs[2]) if node.op_type == "Gemm" and len(node.inputs) > 2 else None
    return np.float32(0) if array is None else array.astype(np.float32)
