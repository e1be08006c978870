"""The least time on Jetson boards, from a roofline of the emitted graph; never a measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qcompiler.errors import ModelError

if TYPE_CHECKING:
    from qcompiler.result import CompileResult

_TENSORRT = "qcompiler.backends.tensorrt"


def board_estimates(result: CompileResult) -> dict[str, Any]:
    """{"boards": [{"title", "fp16", "int8" in ms, "gain", "memory"}], "shapes", "assumptions"}; {} for other targets.

    "memory" is the share of the INT8 time in kernels that memory bounds. The shapes are those of the first golden
    sample. The graph runs once on onnxruntime, which tells all sizes; where it cannot, nothing is estimated.
    """
    if not result.target.emitter.startswith(_TENSORRT) or not result.golden:
        return {}
    from qcompiler.bench.boards import BOARDS
    from qcompiler.bench.node_shapes import profile_nodes
    from qcompiler.bench.regions import fused_regions
    from qcompiler.bench.roofline import ASSUMPTIONS, estimate

    feeds = result.golden[0][0]
    try:
        runs = profile_nodes(result.model, feeds)
    except ModelError:
        return {}
    half, integer = (fused_regions(result.model, runs, precision) for precision in ("fp16", "int8"))
    boards = []
    for board in BOARDS:
        before, after = estimate(half, board), estimate(integer, board)
        boards.append({
            "title": board.title, "fp16": before.seconds * 1e3, "int8": after.seconds * 1e3,
            "gain": before.seconds / after.seconds if after.seconds else 1.0, "memory": after.share("memory"),
        })  # fmt: skip
    shapes = ", ".join(f"{name} {'x'.join(map(str, array.shape)) or 'scalar'}" for name, array in feeds.items())
    return {"boards": boards, "shapes": shapes, "assumptions": list(ASSUMPTIONS)}
