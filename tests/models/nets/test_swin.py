"""Windows and shifts do what the paper says, and the whole module exports as it computes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import torch
from torch import Tensor

from models.nets.swin import Block, PatchMerging, Swin, SwinConfig
from models.nets.windows import into_windows, out_of_windows, relative_index, shifted_mask
from qcompiler.torch_export import export

SMALL = SwinConfig(hidden_size=8, depths=(2, 1), num_heads=(2, 2))


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_windows_are_squares_and_go_back() -> None:
    x = torch.arange(2 * 8 * 8).reshape(2, 8, 8, 1)
    windows = into_windows(x, 4)
    assert torch.equal(windows[1].reshape(4, 4), x[0, :4, 4:, 0])
    assert torch.equal(out_of_windows(windows, 4, 8), x)


def test_the_index_depends_on_the_offset_alone() -> None:
    index = relative_index(4)
    assert index[0, 0] == index[5, 5] and index[0, 1] == index[6, 7] and index[0, 1] != index[1, 0]
    assert index.unique().numel() == 49 and index.min() == 0


def test_the_mask_parts_what_the_roll_brought_together() -> None:
    mask = shifted_mask(8, 4, 2)
    assert mask.shape == (4, 16, 16)
    assert torch.all(mask[0] == 0)
    last = (mask[3] == 0).sum(-1)
    assert torch.all(last == 4), "the last window has four corners of the map"
    assert torch.all((mask[1] == 0).sum(-1) == 8)


def reach(block: Block, row: int, column: int) -> Tensor:
    """Where the map changes when one token does."""
    x = random(1, 8, 8, 8)
    changed = x.clone()
    changed[0, row, column] += random(8)
    with torch.no_grad():
        return (block(changed) - block(x)).abs().amax(-1)[0] > 1e-7


def test_a_token_reaches_its_window_and_a_shift_moves_the_windows() -> None:
    torch.manual_seed(0)
    plain = Block(8, 8, 2, shifted=False, drop=0.0, config=SMALL).eval()
    shifted = Block(8, 8, 2, shifted=True, drop=0.0, config=SMALL).eval()
    for block in (plain, shifted):
        torch.nn.init.normal_(block.attention.position_bias)
    window = torch.zeros(8, 8, dtype=torch.bool)
    window[:4, :4] = True
    assert torch.equal(reach(plain, 1, 1), window)
    corner, middle = torch.zeros_like(window), torch.zeros_like(window)
    corner[:2, :2], middle[2:6, 2:6] = True, True
    assert torch.equal(reach(shifted, 1, 1), corner), "nothing comes round the edge"
    assert torch.equal(reach(shifted, 3, 3), middle)


def test_a_map_of_one_window_is_not_shifted() -> None:
    assert Block(8, 4, 2, shifted=True, drop=0.0, config=SMALL).shift == 0


def test_merging_takes_four_neighbours() -> None:
    torch.manual_seed(0)
    merge = PatchMerging(8)
    x = random(1, 4, 4, 8)
    four = torch.cat([x[0, 2, 0], x[0, 3, 0], x[0, 2, 1], x[0, 3, 1]])
    torch.testing.assert_close(merge(x)[0, 1, 0], merge.reduction(merge.norm(four)))


def test_export_keeps_the_batch_free_and_the_numbers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Swin(SMALL).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    result = export(module, {"pixel_values": (2, 3, 32, 32)}, tmp_path / "model.onnx", tolerance=1e-5)
    assert len(result.parity) >= 2 and max(row.difference or 0.0 for row in result.parity) <= 1e-5
    graph = onnx.load(tmp_path / "model.onnx").graph
    kinds = Counter(node.op_type for node in graph.node)
    assert kinds["Softmax"] == 3 and kinds["Conv"] == 1 and kinds["Slice"] >= 8
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert 2.5e6 < sum(parameter.numel() for parameter in Swin().parameters()) < 3e6
