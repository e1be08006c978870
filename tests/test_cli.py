"""The command line: words to settings, one line per error, exit statuses, clean stdout."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shlex
import subprocess
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

import qcompiler
from qcompiler import cli
from qcompiler.diagnostics import Diagnostic, Severity
from qcompiler.errors import CalibrationError, ExitCode, UnsupportedError
from qcompiler.options import CompileOptions
from qcompiler.result import CompileResult

MakeResult = Callable[..., CompileResult]
HEAVY = ("onnx", "onnxruntime", "onnxscript", "onnx_ir", "torch", "rich", "networkx", "numpy")


class Driver:
    """Stands in for the compiler: remembers options, returns a result made by hand or raises."""

    def __init__(self, make: MakeResult) -> None:
        self.make = make
        self.options = CompileOptions()
        self.fault: BaseException | None = None
        self.changes: dict[str, Any] = {}

    def compile_model(self, model: Path, options: CompileOptions, *, progress: Any) -> CompileResult:
        self.options = options
        progress.phase("read")
        progress.advance()
        warnings.warn("a library deprecates something", DeprecationWarning, stacklevel=1)
        logging.getLogger("library").warning("a library says something")
        if self.fault is not None:
            raise self.fault
        return self.make(source=str(model), options=options, **self.changes)


@pytest.fixture
def driver(make_result: MakeResult, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Driver:
    found = Driver(make_result)
    module = types.ModuleType("qcompiler.driver")
    module.compile_model = found.compile_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "qcompiler.driver", module)
    monkeypatch.setattr(qcompiler, "driver", module, raising=False)
    monkeypatch.chdir(tmp_path)
    ir.save(make_result().reference, tmp_path / "m.onnx")
    return found


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "qcompiler", *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["targets", "--help"], ["compile", "-h"], ["lint", "-h"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        f"import sys; from qcompiler.cli import main; status = main({words!r}); "
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)), status, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[] 0"
    assert done.stdout


def test_import_of_the_package_is_light() -> None:
    code = f"import sys, qcompiler; dir(qcompiler); print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_public_names_exist() -> None:
    for name in qcompiler.__all__:
        assert getattr(qcompiler, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'compil'"):
        _ = qcompiler.compil


def test_help_names_every_flag_and_fits() -> None:
    done = command("--help")
    for verb in ("compile", "lint", "verify", "certify", "targets", "passes"):
        assert re.search(rf"^\s*(verbs: )?{verb}\s", done.stdout, re.MULTILINE)
    for field in CompileOptions.__dataclass_fields__:
        flag = {"shapes": "--shape", "verify": "--no-verify"}.get(field, f"--{field.replace('_', '-')}")
        assert flag in done.stdout, flag


def test_compile_writes_the_bundle(driver: Driver, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["m.onnx", "--target", "ort-cpu"]) == ExitCode.OK
    out, err = capsys.readouterr()
    assert (tmp_path / "m.ort-cpu" / "manifest.json").is_file()
    assert re.fullmatch(r"PASSED qcompile compile \d+\.\d s\n", err)
    assert max(map(len, out.splitlines())) <= 80
    for words in ("ort-cpu", "MatMul 1/1", "Relu follows its input", "0 leftovers", "npz: 8 samples", "worst layers"):
        assert words in out
    assert "WARNING" not in out


def test_json_is_all_of_stdout(driver: Driver, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compile", "m.onnx", "--json", "-o", "out"]) == ExitCode.OK
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "qcompile-report/1"
    assert document["output"] == "out"
    assert document["quantized"] == {"MatMul": {"quantized": 1, "total": 1}}
    assert document["seconds"] == {"read": 0.1, "calibrate": 1.25}
    on_disk = json.loads(Path("out/report.json").read_text())
    assert on_disk == {key: value for key, value in document.items() if key not in ("seconds", "output")}


def test_quiet_says_nothing(driver: Driver, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["-q", "m.onnx"]) == ExitCode.OK
    assert capsys.readouterr() == ("", "")


def test_synthetic_calibration_is_loud(driver: Driver, capsys: pytest.CaptureFixture[str]) -> None:
    driver.changes = {"calibration": {"source": "synthetic", "samples": 8, "method": "mse"}}
    cli.main(["m.onnx"])
    assert "WARNING: synthetic inputs" in capsys.readouterr().out
    cli.main(["m.onnx", "--json", "--force"])
    assert "synthetic inputs" in capsys.readouterr().err


def test_missed_gate_is_exit_1_and_writes_nothing(
    driver: Driver, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    driver.changes = {"gates": ("model: output 'y' has SQNR 3.00 dB, below 20",)}
    assert cli.main(["m.onnx", "--min-sqnr", "20"]) == ExitCode.GATE
    out, err = capsys.readouterr()
    assert "gate missed: model: output 'y' has SQNR 3.00 dB, below 20" in err
    assert err.splitlines()[-1].startswith("FAILED qcompile compile")
    assert "nothing written" in out
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize(("verdict", "status"), [("accepted", 0), ("refused", 1), ("undecided", 1)])
def test_an_asked_for_build_check_must_accept(driver: Driver, verdict: str, status: int) -> None:
    driver.changes = {"check": {"tool": "builder", "verdict": verdict, "messages": ["no tactic"]}}
    assert cli.main(["m.onnx", "--build-check", "on", "-o", "on"]) == status
    assert cli.main(["m.onnx", "-o", "auto"]) == ExitCode.OK


def test_log_file(driver: Driver, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finding = Diagnostic("QC501", Severity.ERROR, "/fc", "refused")
    driver.changes = {"diagnostics": (finding, Diagnostic("QC100", Severity.INFO, "", "seen"))}
    assert cli.main(["m.onnx", "-q", "--log-file", "log.txt"]) == ExitCode.OK
    assert capsys.readouterr() == ("", "qcompile: QC501 error /fc: refused\n")
    assert (tmp_path / "log.txt").read_text().splitlines() == [
        "qcompile compile m.onnx -q --log-file log.txt",
        "QC501 error /fc: refused",
        "QC100 info seen",
    ]


def test_dry_run_prints_the_plan(driver: Driver, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["m.onnx", "--dry-run"]) == ExitCode.OK
    assert "int8   product: inputs [0]" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_flags_reach_the_options(driver: Driver) -> None:
    words = (
        "m.onnx --calib c.npz --validate v --method percentile:99.9 --carrier fp32 --portable --include a --include b"
    )
    words += " --exclude c --exclude-op Gemm,Conv --exclude-op MatMul --plan p.json"
    words += " --max-samples 5 --shape x:1x4 --passes -a,+b --dump-after c --build-check off --no-verify --seed 3"
    words += " --threads 2 --preprocess imagenet"
    assert cli.main(words.split()) == ExitCode.OK
    assert driver.options == CompileOptions(
        target="ort-cpu", calib="c.npz", validate="v", preprocess="imagenet", method="percentile", percentile=99.9,
        carrier="fp32", portable=True, include=("a", "b"), exclude=("c",), exclude_op=("Gemm", "Conv", "MatMul"),
        plan=Path("p.json"), max_samples=5, shapes={"x": ((1, 4),) * 3},
        passes=("-a", "+b"), dump_after=("c",), dump_dir=Path("m.ort-cpu.dumps"), build_check="off", verify=False,
        seed=3, threads=2,
    )  # fmt: skip


def test_flag_beats_environment_beats_file(driver: Driver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "q.toml").write_text('seed = 1\nthreads = 1\nmin-sqnr = 1\noutput = "from-file"\n')
    monkeypatch.setenv("QCOMPILE_SEED", "2")
    monkeypatch.setenv("QCOMPILE_THREADS", "2")
    assert cli.main(["m.onnx", "--config", "q.toml", "--seed", "3"]) == ExitCode.OK
    assert (driver.options.seed, driver.options.threads, driver.options.min_sqnr) == (3, 2, 1.0)
    assert (tmp_path / "from-file").is_dir()


def test_trtexec_shapes(driver: Driver) -> None:
    cli.main(["m.onnx", "--minShapes=x:1x4", "--optShapes", "x:2x4", "--maxShapes", "x:8x4"])
    assert driver.options.shapes == {"x": ((1, 4), (2, 4), (8, 4))}


def test_habits_print_our_words_once(driver: Driver, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--onnx_path", "m.onnx", "--calibration_data", "c.npz", "--output_path", "out", "--quantize_mode", "int8"]
    assert cli.main(words) == ExitCode.OK
    assert driver.options.calib == "c.npz"
    err = capsys.readouterr().err
    assert err.count("in our words: qcompile m.onnx --calib c.npz --output out\n") == 1


@pytest.mark.parametrize(
    ("fault", "status", "line"),
    [
        (CalibrationError("holds none", where="c.npz", hint="store x"), 4, "error: c.npz: holds none (store x)"),
        (UnsupportedError("no Gru", where="/rnn"), 3, "error: /rnn: no Gru"),
        (ValueError("by\nno"), 5, "internal error: ValueError: by no (please report; -v shows the traceback)"),
        (OSError(36, "File name too long", "d.onnx"), 2, "error: d.onnx: File name too long"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_faults_are_one_line_and_leave_nothing(
    driver: Driver, capsys: pytest.CaptureFixture[str], tmp_path: Path, fault: BaseException, status: int, line: str
) -> None:
    driver.fault = fault
    assert cli.main(["m.onnx", "--calib", "c.npz"]) == status
    assert capsys.readouterr() == ("", f"qcompile: {line}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_bugs_show_their_traceback_where_asked(
    driver: Driver, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    driver.fault = ZeroDivisionError("deep")
    assert cli.main(["m.onnx", "-v"]) == ExitCode.INTERNAL
    assert "Traceback" in capsys.readouterr().err
    assert cli.main(["m.onnx", "--log-file", "log.txt"]) == ExitCode.INTERNAL
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert "Traceback" in (tmp_path / "log.txt").read_text()


def test_bounds_reach_the_options(driver: Driver) -> None:
    assert cli.main(["m.onnx", "--min-sqnr", "12", "--min-cosine", ".9"]) == ExitCode.OK
    assert driver.options == CompileOptions(min_sqnr=12.0, min_cosine=0.9)


BAD_WORDS = [
    ("m.onnx --log-file none/log.txt", "none/log.txt: cannot write the log"),
    ("m.onnx --no-verify --min-sqnr 9", "--min-sqnr: needs the verification"),
    ("", "required: MODEL"),
    ("m.onnx n.onnx", "unexpected argument 'n.onnx'"),
    ("lnt", "try lint"),
    ("m.onnx --taget orin", "unknown option --taget (try --target"),
    ("m.onnx --targe orin", "unknown option --targe"),
    ("m.onnx -x", "unknown option -x"),
    ("m.onnx --target", "expected one argument"),
    ("m.onnx --target orn", "unknown target 'orn' (try "),
    ("none.onnx", "none.onnx: no such file"),
    (".", ".: is not a file"),
    ("m.onnx --method minmx", "unknown method 'minmx' (try minmax)"),
    ("m.onnx --seed x", "--seed: expected a whole number"),
    ("m.onnx --exclude '['", "not a regular expression"),
    ("m.onnx --shape x", "not a shape"),
    ("m.onnx --min-cosine 2", "out of range"),
    ("m.onnx --passes smooth", "neither adds nor removes"),
    ("m.onnx --carrier fp8", "unknown value 'fp8'"),
    ("m.onnx --build-check x", "one of auto, on, off"),
    ("m.onnx --max-samples 0", "out of range"),
    ("m.onnx --config none.toml", "cannot read the settings"),
    ("m.onnx -o m.onnx", "the output is a folder"),
    ("m.onnx -o .", "would replace the model"),
    ("m.onnx -o full", "not a bundle of qcompile"),
    ("m.onnx -o full --force", "not a bundle of qcompile"),
    ("m.onnx -o full/a.txt", "not a folder"),
    ("m.onnx --dry-run --dump-after x", "a dry run writes nothing"),
    ("m.onnx --quantize_mode fp8", "'fp8' is not supported"),
    ("m.onnx --onnx_path", "expected one argument"),
    ("m.onnx --portable=yes", "ignored explicit argument"),
    ("lint", "required: FILE"),
    ("lint m.onnx --fail-on info", "unknown level"),
    ("lint none.onnx", "none.onnx"),
    ("lint m.onnx --calib x", "unknown option --calib"),
    ("verify m.onnx", "required: B"),
    ("verify m.onnx none.onnx", "none.onnx"),
    ("targets orn", "unknown target 'orn'"),
    ("passes x", "unexpected argument 'x'"),
]


@pytest.mark.parametrize(
    ("words", "message"), BAD_WORDS, ids=lambda item: " ".join(item) if isinstance(item, list) else ""
)
def test_bad_words_are_one_line_and_exit_2(
    driver: Driver, capsys: pytest.CaptureFixture[str], tmp_path: Path, words: str, message: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("")
    before = sorted(tmp_path.rglob("*"))
    status = cli.main(shlex.split(words) or ["compile"])
    out, err = capsys.readouterr()
    assert status == ExitCode.USAGE, err
    assert out == ""
    assert err.startswith("qcompile: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_targets_and_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["targets"]) == ExitCode.OK
    out = capsys.readouterr().out
    assert "orin-jp6 (also orin" in out
    assert "  - " in out
    assert cli.main(["targets", "orin", "--json"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)[0]["name"] == "orin-jp6"
    assert cli.main(["passes", "--json"]) == ExitCode.OK
    for name, line in json.loads(capsys.readouterr().out).items():
        assert line, name


def test_verify_compares_any_two_models(
    make_result: MakeResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = make_result()
    ir.save(result.reference, tmp_path / "a.onnx")
    ir.save(result.model, tmp_path / "b.onnx")
    words = ["verify", str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")]
    assert cli.main(words) == ExitCode.OK
    assert "no tensor diverges" in capsys.readouterr().out
    assert cli.main([*words, "--min-sqnr", "60"]) == ExitCode.GATE
    out, err = capsys.readouterr()
    assert "first tensor that diverges: h" in out
    assert "gate missed: output 'y'" in err
    assert cli.main([*words, "--min-sqnr", "60", "--json"]) == ExitCode.GATE
    document = json.loads(capsys.readouterr().out)
    assert (document["first_divergence"], len(document["missed"])) == ("h", 1)


def test_lint_fails_on_findings(make_result: MakeResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = ir.from_onnx_text(
        '<ir_version: 8, opset_import: ["" : 19]>\nm (float[N, 4] x) => (float[N, 4] y) '
        "<float s = {0.1}, uint8 z = {128}> { q = QuantizeLinear(x, s, z)\n y = DequantizeLinear(q, s, z) }"
    )
    ir.save(bad, tmp_path / "bad.onnx")
    assert cli.main(["lint", str(tmp_path / "bad.onnx"), "--target", "orin", "--json"]) == ExitCode.GATE
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert findings
    assert set(findings[0]) == {"code", "severity", "where", "message", "hint"}


def test_closed_pipe_is_no_error(tmp_path: Path) -> None:
    code = f"{sys.executable} -m qcompiler targets | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_stops_early_is_no_error(driver: Driver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`qcompile m.onnx | head -3`: rich's own answer would be exit status 1, a missed gate here."""

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    assert cli.main(["m.onnx"]) == ExitCode.OK


def test_closed_streams_are_no_error(driver: Driver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert cli.main(["m.onnx", "--json"]) == ExitCode.OK
    assert (tmp_path / "m.ort-cpu" / "model.onnx").is_file()
