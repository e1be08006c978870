"""The order of cleaning up after passes that edited the graph."""

from __future__ import annotations

from qcompiler.passes.cleanup.drop_no_ops import DropNoOps
from qcompiler.passes.cleanup.drop_unused import DropUnused
from qcompiler.passes.cleanup.merge_equal_nodes import MergeEqualNodes
from qcompiler.passes.cleanup.sort_nodes import SortNodes
from qcompiler.pipeline import Pass


def cleanup_passes() -> tuple[Pass, ...]:
    """No-ops, duplicates and leftovers go; names, inputs and outputs stay."""
    return (DropNoOps(), MergeEqualNodes(), DropUnused(), SortNodes())
