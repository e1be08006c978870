"""The bundle: whole or absent, checked by its own script, the same bytes every time."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler import bundle, golden
from qcompiler import manifest as manifests
from qcompiler.errors import OutputError
from qcompiler.options import CompileOptions
from qcompiler.result import CompileResult

MakeResult = Callable[..., CompileResult]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run_ort(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(folder / "run_ort.py"), *arguments], capture_output=True, text=True, check=False
    )


def test_files_and_manifest(make_result: MakeResult, tmp_path: Path) -> None:
    result = make_result(extra_files={"build_engine.sh": b"#!/bin/sh\n"})
    folder = result.save(tmp_path / "m.ort-cpu")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    names = set(contents(folder))
    assert {"model.onnx", "plan.json", "report.json", "run_ort.py", "golden/0.inputs.npz", "timings.json"} <= names
    assert set(manifest["files"]) == names - {"manifest.json", "timings.json"}
    assert manifest["inputs"] == [{"name": "x", "dtype": "float", "shape": ["N", 4]}]
    assert manifest["calibration"]["fingerprint"] == "ab" * 32
    assert os.access(folder / "build_engine.sh", os.X_OK)
    assert [path.name for path in tmp_path.iterdir()] == ["m.ort-cpu"]


def test_two_runs_give_the_same_bytes_and_no_path_or_time(make_result: MakeResult, tmp_path: Path) -> None:
    source = tmp_path / "deep" / "m.onnx"
    source.parent.mkdir()
    source.write_bytes(b"weights")
    options = CompileOptions(
        calib=str(tmp_path / "calib.npz"), plan=tmp_path / "plan.json", dump_dir=tmp_path / "dumps"
    )
    result = make_result(source="", options=options)
    first, second = result.save(tmp_path / "a"), replace(result, seconds={"read": 9.0}).save(tmp_path / "b")
    one, two = contents(first), contents(second)
    assert one.pop("timings.json") != two.pop("timings.json")
    assert one == two
    assert not [name for name, data in one.items() if str(tmp_path).encode() in data]
    manifest = json.loads(one["manifest.json"])
    assert manifest["options"]["calib"] == "calib.npz"
    assert manifest["options"]["plan"] == "plan.json"


def test_source_digest(make_result: MakeResult, tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "m.onnx"
    ir.save(make_result().reference, path)
    manifest = json.loads((make_result(source=str(path)).save(tmp_path / "out") / "manifest.json").read_bytes())
    assert manifest["source"] == {
        "file": "m.onnx", "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "external": {}
    }  # fmt: skip


def test_source_digest_counts_external_weights(make_result: MakeResult, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    ir.save(make_result().reference, path, external_data="m.data", size_threshold_bytes=0)
    before = manifests.source_document(str(path))
    assert set(before["external"]) == {"m.data"}
    data = (tmp_path / "m.data").read_bytes()
    (tmp_path / "m.data").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    after = manifests.source_document(str(path))
    assert after["sha256"] == before["sha256"]
    assert after["external"] != before["external"]


def test_run_ort_replays_and_notices_changes(make_result: MakeResult, tmp_path: Path) -> None:
    folder = make_result().save(tmp_path / "out")
    fine = run_ort(folder, "--check")
    assert fine.returncode == 0, fine.stderr
    assert fine.stdout.splitlines()[-1] == "PASSED"
    np.savez(tmp_path / "mine.npz", x=np.ones((1, 4), np.float32))
    assert run_ort(folder, str(tmp_path / "mine.npz"), str(tmp_path / "got.npz")).returncode == 0
    with np.load(tmp_path / "got.npz") as got:
        assert got["y"].shape == (1, 3)
    outputs = folder / "golden" / "0.outputs.npz"
    with np.load(outputs) as archive:
        moved = {name: archive[name] + 1 for name in archive.files}
    golden.write_npz(outputs, moved)
    assert "golden/0.outputs.npz differs from manifest.json" in run_ort(folder, "--check").stderr
    failed = run_ort(folder, "--check", "--no-hash")
    assert (failed.returncode, failed.stdout.splitlines()[-1]) == (1, "FAILED")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("manifest.json", None, "manifest.json can't be read: No such file"),
        ("manifest.json", b"{}", "manifest.json is damaged"),
        ("model.onnx", None, "model.onnx is missing"),
        ("model.onnx", b"x", "model.onnx differs from manifest.json (sha256)"),
        ("golden/tolerances.json", b"{}", "golden/tolerances.json differs from manifest.json (sha256)"),
    ],
)
def test_run_ort_refuses_a_wrong_bundle_in_one_line(
    make_result: MakeResult, tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    folder = make_result().save(tmp_path / "out")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    done = run_ort(folder, "--check")
    assert done.returncode == 1
    assert done.stderr.startswith(f"run_ort.py: {words}")
    assert done.stderr.count("\n") == 1


def test_run_ort_refuses_another_models_graph_and_wrong_inputs(make_result: MakeResult, tmp_path: Path) -> None:
    folder = make_result().save(tmp_path / "out")
    np.savez(tmp_path / "mine.npz", x=np.ones((1, 5), np.float32))
    done = run_ort(folder, str(tmp_path / "mine.npz"))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "the model does not run on these inputs" in done.stderr
    done = run_ort(folder, str(folder / "plan.json"))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    other = ir.from_onnx_text('<ir_version: 8, opset_import: ["" : 17]> m (float[2] a) => (float[2] b) { b = Relu(a) }')
    ir.save(other, folder / "model.onnx")
    done = run_ort(folder, "--check", "--no-hash")
    assert done.returncode == 1
    assert "the model's inputs are {'a': 'tensor(float)'}; manifest.json says" in done.stderr


def test_run_ort_needs_no_qcompiler() -> None:
    text = (Path(bundle.__file__).parent / "data" / "run_ort.py").read_text()
    imported = {
        line.split()[1].partition(".")[0] for line in text.splitlines() if line.strip().startswith(("import ", "from "))
    }
    assert "qcompiler" not in imported
    assert imported - set(sys.stdlib_module_names) == {"numpy", "onnxruntime"}


def test_host_graph_is_what_replays(make_result: MakeResult, tmp_path: Path) -> None:
    result = make_result()
    folder = replace(result, host=result.model.clone()).save(tmp_path / "out")
    assert (folder / "host.onnx").is_file()
    (folder / "model.onnx").write_bytes(b"not for onnxruntime")
    assert run_ort(folder, "--check", "--no-hash").returncode == 0


def test_existing_output_needs_force_and_force_replaces(make_result: MakeResult, tmp_path: Path) -> None:
    folder = make_result().save(tmp_path / "out")
    with pytest.raises(OutputError, match="--force replaces it"):
        make_result().save(folder)
    (folder / "model.plan").write_bytes(b"an engine")
    (folder / "timing.cache").write_bytes(b"")
    make_result(extra_files={"new.txt": b"new"}).save(folder, force=True)
    assert (folder / "new.txt").is_file()
    assert not (folder / "model.plan").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_bundle_that_appears_meanwhile_is_kept(
    make_result: MakeResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, fast = make_result(), make_result(extra_files={"fast.txt": b""})
    write = golden.write_golden

    def overtaken(*arguments: Any) -> None:
        monkeypatch.setattr(golden, "write_golden", write)
        fast.save(tmp_path / "out")
        write(*arguments)

    monkeypatch.setattr(golden, "write_golden", overtaken)
    with pytest.raises(OutputError, match="--force replaces it"):
        slow.save(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "fast.txt").is_file()


def test_an_empty_folder_is_taken(make_result: MakeResult, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert bundle.is_bundle(make_result().save(tmp_path / "out"))


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_bundle_is_never_deleted(make_result: MakeResult, tmp_path: Path, force: bool) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"precious")
    (folder / "manifest.json").write_text('{"schema": "another-tool/1"}')
    with pytest.raises(OutputError, match="is not a bundle"):
        make_result().save(folder, force=force)
    file = tmp_path / "file"
    file.write_text("text")
    with pytest.raises(OutputError, match="not a folder"):
        make_result().save(file, force=force)
    assert (folder / "a.jpg").read_bytes() == b"precious"


def test_a_users_file_in_a_bundle_stops_force(make_result: MakeResult, tmp_path: Path) -> None:
    folder = make_result().save(tmp_path / "out")
    (folder / "notes.md").write_text("mine")
    with pytest.raises(OutputError, match=r"holds 'notes\.md'"):
        make_result().save(folder, force=True)


def test_the_source_is_never_replaced(make_result: MakeResult, tmp_path: Path) -> None:
    folder = make_result().save(tmp_path / "out")
    for target in (folder, tmp_path, folder / "model.onnx"):
        with pytest.raises(OutputError):
            make_result(source=str(folder / "model.onnx")).save(target, force=True)
    assert (folder / "model.onnx").is_file()


def test_an_onnx_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the output is a folder"):
        bundle.check_output(tmp_path / "m.onnx", None, force=False)


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("bug")])
def test_a_failure_leaves_nothing(
    make_result: MakeResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    def fail(*_: Any) -> None:
        raise fault

    result = make_result()
    old = result.save(tmp_path / "old")
    before = contents(old)
    monkeypatch.setattr(golden, "write_golden", fail)
    expected = OutputError if isinstance(fault, OSError) else type(fault)
    with pytest.raises(expected) as caught:
        result.save(tmp_path / "new" / "deeper" / "out")
    with pytest.raises(expected):
        result.save(old, force=True)
    if isinstance(fault, OSError):
        assert "No space left" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert contents(old) == before


def test_a_failed_rename_brings_the_old_bundle_back(
    make_result: MakeResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = make_result()
    old = result.save(tmp_path / "old")
    before, rename = contents(old), Path.rename

    def fail_for_new(self: Path, target: Path) -> Path:
        if self.suffix == ".partial":
            raise OSError(1, "Operation not permitted")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_new)
    with pytest.raises(OutputError, match="Operation not permitted"):
        result.save(old, force=True)
    monkeypatch.undo()
    assert contents(old) == before
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot write to"):
        bundle.check_output(tmp_path / "out", None, force=False)
    tmp_path.chmod(0o700)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_sigterm_while_writing_leaves_nothing(make_result: MakeResult, tmp_path: Path) -> None:
    def terminate(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(golden, "write_golden", terminate)
        with pytest.raises(KeyboardInterrupt):
            make_result().save(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_npz_takes_any_name_and_has_no_date(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"file": np.ones(2), "a/b:0": np.array(["x", "yz"], object), "scalar": np.float32(3)}
    golden.write_npz(tmp_path / "a.npz", arrays)
    golden.write_npz(tmp_path / "b.npz", dict(reversed(arrays.items())))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz") as archive:
        assert sorted(archive.files) == ["a/b:0", "file", "scalar"]
        assert archive["a/b:0"].tolist() == ["x", "yz"]
        assert archive["scalar"].shape == ()


def test_tolerances_follow_what_quantization_changed() -> None:
    emitted = [{"y": np.array([1.0, 2.0], np.float32), "k": np.array([1])}]
    assert golden.tolerances(emitted, [{"y": np.array([1.0, 2.5], np.float32), "k": np.array([1])}]) == {
        "y": {"atol": 0.25}, "k": {"agreement": 0.99}
    }  # fmt: skip
    assert golden.tolerances(emitted, [emitted[0]])["y"] == {"atol": 2e-4}


def test_moved_bundle_still_runs(make_result: MakeResult, tmp_path: Path) -> None:
    folder = make_result().save(tmp_path / "out")
    shutil.move(folder, tmp_path / "elsewhere")
    assert run_ort(tmp_path / "elsewhere", "--check").returncode == 0
