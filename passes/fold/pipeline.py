"""The order of folding."""

from __future__ import annotations

from qcompiler.passes.cleanup.drop_unused import DropUnused
from qcompiler.passes.fold.fold_affine import FoldAffine
from qcompiler.passes.fold.fold_batch_norm import FoldBatchNorm
from qcompiler.passes.fold.fold_layer_scale import FoldLayerScale
from qcompiler.passes.fold.split_joined_reader import SplitJoinedReader
from qcompiler.pipeline import Pass


def fold_passes() -> tuple[Pass, ...]:
    """What follows a layer, into the layer, and layers of joined inputs into one for each; after recognition, which
    knows some of these nodes as parts of forms, and norms."""
    # a norm behind a bias, a gain behind a norm
    return (FoldAffine(), FoldBatchNorm(), FoldAffine(), FoldLayerScale(), SplitJoinedReader(), DropUnused())
