"""`qcompile show --stable`, alone and as git's textconv."""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompiler import cli
from qcompiler.errors import ExitCode
from tests.building import build
from tests.diffing.test_small_pairs import call, loop
from tests.review.scratch import TEXT, bash, model, new_repository

Capture = pytest.CaptureFixture[str]


def shown(path: Path, capsys: Capture) -> list[str]:
    assert cli.main(["show", "--stable", str(path)]) == ExitCode.OK
    out, err = capsys.readouterr()
    assert err == ""
    return out.splitlines()


def test_one_line_for_each_node_and_weight(tmp_path: Path, capsys: Capture) -> None:
    ir.save(build("m (float[N, 4] x) => (float[N, 4] y) { [cut] a = Clip(x, low) [top] y = Softmax<axis = 1>(a) }",
                  low=np.float32(0.5)), tmp_path / "a.onnx")  # fmt: skip
    assert shown(tmp_path / "a.onnx", capsys) == [
        "ir_version 10", "opset ai.onnx 21", "input x float[N, 4]", "a = Clip(x, low) [cut]",
        "y = Softmax(a) axis=1 [top]", "output y float[N, 4]", "weight low float[] 0.5",
    ]  # fmt: skip


def test_large_weights_are_hashes_of_their_content(tmp_path: Path, capsys: Capture) -> None:
    weight = np.random.default_rng(0).standard_normal((200, 200)).astype(np.float32)  # cut out of the message
    found = []
    for factor in (1, 1, 2):
        ir.save(build("m (float[N, 200] x) => (float[N, 200] y) { y = MatMul(x, w) }", w=weight * factor),
                tmp_path / "a.onnx")  # fmt: skip
        found.append(shown(tmp_path / "a.onnx", capsys)[-1])
    assert found[0].startswith("weight w float[200, 200] #")
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("make", [model, loop, call])
def test_the_order_of_lists_does_not_show(tmp_path: Path, capsys: Capture, make: object) -> None:
    proto = ir.to_proto(make())  # type: ignore[operator]
    onnx.save(proto, tmp_path / "a.onnx")
    chance = random.Random(0)
    for group in (proto.graph.node, proto.graph.initializer, proto.opset_import, proto.graph.value_info):
        items = list(group)
        chance.shuffle(items)
        del group[:]
        group.extend(items)
    onnx.save(proto, tmp_path / "b.onnx")
    lines = shown(tmp_path / "a.onnx", capsys)
    assert lines == shown(tmp_path / "b.onnx", capsys)
    assert len([line for line in lines if " = " in line]) == sum(
        1 for part in (proto.graph.node, *(item.node for item in proto.functions)) for _ in part
    ) + sum(len(attribute.g.node) for node in proto.graph.node for attribute in node.attribute)


def test_pointers_external_weights_and_other_files(tmp_path: Path, capsys: Capture) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 12\n"
    (tmp_path / "p.onnx").write_text(pointer, encoding="utf-8")
    assert shown(tmp_path / "p.onnx", capsys) == pointer.splitlines()
    onnx.save(ir.to_proto(model()), tmp_path / "far.onnx", save_as_external_data=True, location="w.data",
              size_threshold=0)  # fmt: skip
    (tmp_path / "w.data").unlink()  # git hands over the .onnx file alone
    assert shown(tmp_path / "far.onnx", capsys)[-1] == "weight w2 float[64, 64] in w.data at 16384, 16384 bytes"
    (tmp_path / "bad.onnx").write_bytes(b"\x00nothing")
    assert cli.main(["show", "--stable", str(tmp_path / "bad.onnx")]) == ExitCode.MODEL
    assert cli.main(["show", str(tmp_path / "p.onnx")]) == ExitCode.USAGE
    assert "--stable" in capsys.readouterr().err


@pytest.mark.skipif(not shutil.which("git"), reason="git is missing")
def test_git_diff_reads_well(tmp_path: Path) -> None:
    scratch = new_repository(tmp_path / "repository")
    scratch.put(".gitattributes", b"*.onnx diff=onnx\n")
    scratch.git("config", "diff.onnx.textconv", f"'{sys.executable}' -m qcompiler show --stable")
    scratch.put("m.onnx", model())
    scratch.commit()
    scratch.put("m.onnx", model(2.0, TEXT.replace("Relu", "Tanh")))
    done = bash("git diff", scratch.root, {"GIT_PAGER": "cat"})
    changed = [line for line in done.stdout.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert changed[:2] == ["-b = Relu(a) [act]", "+b = Tanh(a) [act]"]
    assert [line.rpartition(" #")[0] for line in changed[2:]] == [f"{sign}weight w2 float[64, 64]" for sign in "-+"]
