"""One call from module to file: names, axes, comparison with torch, fallback, and what is left behind on failure."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

pytest.importorskip("torch", reason="the extra `torch` is not installed")
import torch
from torch import Tensor, nn

import qcompiler
from qcompiler.errors import GateError, OutputError, UnsupportedError, UsageError
from qcompiler.reading import load_model

torchscript = partial(qcompiler.export, exporter="torchscript")  # a second an export; dynamo takes several


class Tiny(nn.Module):
    """Embedding, linear, norm over the batch, dropout; a dict comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 16)
        self.blocks = nn.ModuleList([nn.Linear(16, 24), nn.Linear(24, 16)])
        self.norm = nn.BatchNorm1d(16)
        self.drop = nn.Dropout(0.5)

    def forward(self, ids: Tensor, scale: Tensor | None = None) -> dict[str, Any]:
        x = self.table(ids)
        x = self.drop(torch.relu(self.blocks[0](x)))
        x = self.norm(self.blocks[1](x).mean(1))
        return {"features": x if scale is None else x * scale, "nothing": None, "top": x.argmax(-1)}


class Branches(nn.Module):
    """A branch on a value: dynamo refuses it, a trace takes one side."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2.0 if x.abs().sum() > -1 else x


class BakesBatch(nn.Module):
    """A size that a trace turns into a constant."""

    def forward(self, x: Tensor) -> Tensor:
        return x / float(len(x.tolist()))


def names(file: Path) -> tuple[list[str], list[str], set[str], set[str]]:
    graph = onnx.load(file).graph
    return (
        [item.name for item in graph.input], [item.name for item in graph.output],
        {item.name for item in graph.initializer}, {node.name for node in graph.node},
    )  # fmt: skip


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_names_axes_and_comparison(exporter: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, file = Tiny(), tmp_path / "tiny.onnx"
    result = qcompiler.export(module, {"ids": ((2, 5), "int64")}, file, exporter=exporter, dynamic={"ids": {0: "n"}})
    inputs, outputs, weights, nodes = names(file)
    assert (inputs, outputs) == (["ids"], ["features", "top"])
    assert {"table.weight", "blocks.0.weight", "blocks.0.bias", "blocks.1.weight"} <= weights
    assert "/blocks.0/MatMul" in nodes or "/blocks.0/Gemm" in nodes
    assert result.exporter == exporter and not result.failures
    assert str(result.inputs[0]) == "ids int64[n, 5]" and str(result.outputs[0]) == "features float32[n, 16]"
    assert [dict(row.sizes)["n"] for row in result.parity] == [2, 4]
    assert all(row.difference is not None and row.difference < 1e-5 for row in result.parity)
    assert str(Path(__file__).parent) not in file.read_bytes().decode(errors="ignore"), "stack traces hold paths"
    load_model(file)
    assert files(tmp_path) == ["tiny.onnx"]


def test_training_flags_are_restored_also_after_a_failure(tmp_path: Path) -> None:
    module = Tiny()
    module.norm.eval()
    ids = torch.zeros(2, 3, dtype=torch.int64)
    torchscript(module, ids, tmp_path / "a.onnx")
    with pytest.raises(UsageError, match="cannot run the example inputs"):
        torchscript(module, torch.zeros(2, 3), tmp_path / "b.onnx")
    assert module.training and module.drop.training and not module.norm.training
    assert torch.is_grad_enabled() and all(item.grad is None for item in module.parameters())


def test_integers_from_shapes_stay_below_the_table_they_index(tmp_path: Path) -> None:
    result = torchscript(Tiny(), {"ids": "3x40:int64"}, tmp_path / "m.onnx", check=[{"batch_size": 9}])
    assert [dict(row.sizes)["batch_size"] for row in result.parity] == [3, 4, 1, 9]
    assert all(row.difference is not None for row in result.parity)


def test_what_dynamo_refuses_goes_to_torchscript_with_the_reason(tmp_path: Path) -> None:
    result = qcompiler.export(Branches(), torch.ones(2, 3), tmp_path / "m.onnx")
    assert result.exporter == "torchscript"
    assert len(result.failures) == 1 and result.failures[0].startswith("dynamo failed: ")
    assert result.failures[0] in str(result) and "\n" not in result.failures[0]


def test_a_graph_that_differs_from_torch_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"'output' differs from torch by .* at batch_size=3") as raised:
        torchscript(BakesBatch(), torch.ones(2, 3), tmp_path / "m.onnx")
    assert raised.value.exit_code == 1
    assert files(tmp_path) == []
    fixed = torchscript(BakesBatch(), torch.ones(2, 3), tmp_path / "m.onnx", dynamic=None)
    assert [row.label for row in fixed.parity] == ["the example"]


def test_without_the_check_nothing_is_compared(tmp_path: Path) -> None:
    result = torchscript(BakesBatch(), torch.ones(2, 3), tmp_path / "m.onnx", check=False)
    assert result.parity == () and "was not checked" in str(result)


def test_both_refuse_and_both_reasons_are_named(tmp_path: Path) -> None:
    class Eigen(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.eig(x)[0].real if x.sum() > 0 else x

    with pytest.raises(UnsupportedError, match=r"dynamo failed: .*torchscript failed: ") as raised:
        qcompiler.export(Eigen(), torch.eye(3), tmp_path / "m.onnx", dynamic=None)
    assert raised.value.exit_code == 3 and "\n" not in str(raised.value)
    assert files(tmp_path) == []


def test_exporters_print_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnsupportedError):
        torchscript(_Copies(), torch.ones(2, 2), tmp_path / "m.onnx")
    assert capfd.readouterr() == ("", "")


class _Copies(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.qr(x)[0]


def test_given_names_win_and_an_input_that_is_returned_is_one(tmp_path: Path) -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
            return x, x + y, x + y

    file = tmp_path / "m.onnx"
    torchscript(Both(), (torch.ones(2, 3), np.ones((2, 3), np.float32)), file, input_names=["p", "q"])
    assert names(file)[:2] == (["p", "q"], ["output_0", "output_1", "output_2"])
    torchscript(Both(), (torch.ones(2, 3), torch.ones(2, 3)), file, output_names=["x", "sum"], force=True)
    assert names(file)[:2] == (["x", "y"], ["x_out", "sum", "output_2"])
    session = ort.InferenceSession(file)
    got = session.run(None, {"x": np.full((4, 3), 2, np.float32), "y": np.ones((4, 3), np.float32)})
    assert [float(array[3, 2]) for array in got] == [2, 3, 3]


def test_constants_are_arguments_and_no_inputs(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor, times: int = 2, more: Tensor | None = None) -> Tensor:
            return x * times if more is None else more

    torchscript(Twice(), {"x": torch.ones(1, 2), "times": 5, "more": None}, tmp_path / "m.onnx")
    assert names(tmp_path / "m.onnx")[0] == ["x"]
    assert ort.InferenceSession(tmp_path / "m.onnx").run(None, {"x": np.ones((3, 2), np.float32)})[0][2, 1] == 5


def test_sizes_that_torch_refuses_are_listed(tmp_path: Path) -> None:
    class Pairs(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape[0] == 1:
                raise ValueError("needs two rows")
            return x + 1

    result = torchscript(Pairs(), torch.ones(2, 2), tmp_path / "m.onnx")
    assert [row.problem for row in result.parity] == ["", "", "torch refuses: ValueError: needs two rows"]


def test_files_are_replaced_only_by_force_and_weights_may_lie_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qcompiler import saving

    file, module = tmp_path / "m.onnx", nn.Linear(64, 64)
    torchscript(module, torch.ones(1, 64), file)
    before = file.read_bytes()
    with pytest.raises(OutputError, match="the output exists"):
        torchscript(module, torch.ones(1, 64), file)
    assert file.read_bytes() == before
    monkeypatch.setattr(saving, "save_model", partial(saving.save_model, external_above=0))
    torchscript(module, torch.ones(1, 64), file, force=True)
    assert files(tmp_path) == ["m.onnx", "m.onnx.data"]
    got = ort.InferenceSession(file).run(None, {"input": np.ones((1, 64), np.float32)})[0]
    np.testing.assert_allclose(got, module(torch.ones(1, 64)).detach().numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"module": nn.Linear}, "Linear is not a torch module .*instance"),
        ({"module": print}, "print is not a torch module|builtin_function"),
        ({"output": "m.pt"}, "write m.pt.onnx"),
        ({"opset": 9}, "opset 9 is out of range"),
        ({"exporter": "magic"}, "unknown exporter 'magic'"),
        ({"tolerance": 0}, "not above 0"),
        ({"example_inputs": 3}, "cannot be a int"),
        ({"example_inputs": {"y": (2, 4)}}, "forward takes no 'y' .it takes input"),
        ({"example_inputs": (1, 2)}, "2 example inputs, but forward takes 1"),
        ({"example_inputs": {"input": ((2, 4), "int63")}}, "unknown type 'int63'"),
        ({"example_inputs": {"input": object()}}, "'input' is a object"),
        ({"input_names": ["a", "b"]}, "2 input names for 1"),
        ({"output_names": ["a", "b"]}, "2 output names for 1"),
        ({"dynamic": "everything"}, "unknown value 'everything'"),
        ({"dynamic": {"x": {0: "n"}}}, "no input 'x' .try input"),
        ({"dynamic": {"input": {2: "n"}}}, "has 2 axes, not one numbered 2"),
        ({"check": [{"rows": 3}]}, "no size is called 'rows'"),
    ],
)
def test_usage_errors_are_one_line(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    given = {"module": nn.Linear(4, 3), "example_inputs": torch.ones(2, 4), "output": "m.onnx", **arguments}
    given["output"] = tmp_path / given["output"]
    with pytest.raises(UsageError, match=message) as raised:
        torchscript(given.pop("module"), given.pop("example_inputs"), given.pop("output"), **given)
    assert "\n" not in str(raised.value)
    assert files(tmp_path) == []
