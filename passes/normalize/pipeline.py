"""The order of normalization."""

from __future__ import annotations

from qcompiler.passes.cleanup.drop_no_ops import DropNoOps
from qcompiler.passes.cleanup.drop_unused import DropUnused
from qcompiler.passes.cleanup.merge_equal_nodes import MergeEqualNodes
from qcompiler.passes.cleanup.sort_nodes import SortNodes
from qcompiler.passes.normalize.convert_opset import ConvertOpset
from qcompiler.passes.normalize.expand_operators import ExpandOperators
from qcompiler.passes.normalize.fold_constants import FoldConstants
from qcompiler.passes.normalize.infer_shapes import InferShapes
from qcompiler.passes.normalize.inline_branches import InlineBranches
from qcompiler.passes.normalize.inline_functions import InlineFunctions
from qcompiler.passes.normalize.lift_constants import LiftConstants
from qcompiler.passes.normalize.name_everything import NameEverything
from qcompiler.passes.normalize.plain_einsum import PlainEinsum
from qcompiler.passes.normalize.plain_gather import PlainGather
from qcompiler.passes.normalize.plain_gemm import PlainGemm
from qcompiler.passes.normalize.plain_strides import PlainStrides
from qcompiler.passes.normalize.settle_shapes import SettleShapes
from qcompiler.pipeline import Pass

COMMON_OPS = frozenset({"LayerNormalization"})


def normalize_passes(opset: int, native_ops: frozenset[str] = COMMON_OPS) -> tuple[Pass, ...]:
    """From any model that `load_model` gives to one flat graph form in `opset`.

    Afterwards: no functions, no Constant nodes, unique names, weights are initializers, types and shapes everywhere
    that inference knows them, no composite operator outside `native_ops`. Inputs and outputs keep names, order, types.
    """
    return (
        InlineFunctions(),
        LiftConstants(),
        SortNodes(),
        NameEverything(),
        InferShapes(),  # expansion and conversion ask for types and ranks
        ExpandOperators(opset, native_ops),
        ConvertOpset(opset),
        LiftConstants(),  # constants that the new forms brought
        NameEverything(),
        PlainEinsum(),
        PlainGemm(),
        PlainGather(),
        PlainStrides(),
        DropNoOps(),  # weights behind Identity come free without a copy
        MergeEqualNodes(),  # one result for what shares its operands, folded once
        InferShapes(),
        FoldConstants(),
        DropUnused(),
        SettleShapes(),  # again: folded shape operands tell more
        InlineBranches(),  # on conditions that folding found
        DropNoOps(),
        MergeEqualNodes(),
        DropUnused(),
        InferShapes(),
        SortNodes(),
        NameEverything(),
    )
