"""Built distributions hold all of the code, and third-party plug-ins are found; from a copy, with no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = ROOT / "tests" / "plugin"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("setuptools") is None, reason="setuptools is not installed (extra 'dev')"),
]


def run(command: list[str], cwd: Path, **environment: str) -> str:
    """Output of a command that must succeed, away from this checkout's own settings."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        command, cwd=cwd, env=kept | environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def code_files(*folders: str) -> set[str]:
    """Python files by the path that they have once installed."""
    found = set()
    for folder in folders:
        below = ROOT / folder
        prefix = folder if folder == "qcompiler" else f"qcompiler/{folder}"
        for file in below.rglob("*.py"):
            parts = file.relative_to(below).parts
            if not (folder == "qcompiler" and parts[0] in ("passes", "backends")):
                found.add("/".join((prefix, *parts)))
    return found


@pytest.fixture(scope="module")
def copy_without_links(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout as git makes it on systems without links."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("qcompiler", "passes", "backends"):
        shutil.copytree(
            ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True, dirs_exist_ok=True
        )
    for name in ("passes", "backends"):
        (copy / "qcompiler" / name).unlink()
        (copy / "qcompiler" / name).write_text(f"../{name}")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(copy_without_links: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the source distribution, as an installer without wheels would build it."""
    out = tmp_path_factory.mktemp("dist")
    build = "import sys, setuptools.build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"
    archive = run([sys.executable, "-c", build, "build_sdist", str(out)], copy_without_links).splitlines()[-1]
    unpacked = tmp_path_factory.mktemp("sdist")
    with tarfile.open(out / archive) as tar:
        tar.extractall(unpacked)
    (source,) = unpacked.iterdir()
    name = run([sys.executable, "-c", build, "build_wheel", str(out)], source).splitlines()[-1]
    return out / name


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a fresh environment with the wheel and the plug-in; dependencies come from the one that runs this."""
    place = tmp_path_factory.mktemp("venv")
    venv.create(place, with_pip=False, symlinks=os.name != "nt")
    python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    run([*pip, str(wheel)], place)
    plugin = shutil.copytree(PLUGIN, place / "plugin")
    built = run(
        [sys.executable, "-c", "import setuptools.build_meta as b; print(b.build_wheel('.'))"], plugin
    ).splitlines()[-1]
    run([*pip, str(plugin / built)], place)
    return python


def dependencies() -> str:
    """PYTHONPATH with the installed packages of this environment; its editable finder is not active there."""
    return os.pathsep.join(entry for entry in sys.path if entry.endswith("-packages"))


def test_wheel_holds_every_file_of_code_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    code = {name for name in names if name.endswith(".py")}
    assert code == code_files("qcompiler", "passes", "backends")
    assert "qcompiler/py.typed" in names
    drawn = {f"qcompiler/html_report/{file.name}" for file in (ROOT / "qcompiler/html_report").glob("*.[cj]s*")}
    assert drawn and drawn <= set(names)
    assert not [name for name in names if not name.startswith(("qcompiler/", "qcompile_onnx-"))]


def test_installed_command_says_its_version(environment: Path) -> None:
    command = environment.with_name("qcompile.exe" if os.name == "nt" else "qcompile")
    said = run([str(command), "--version"], environment.parent, PYTHONPATH=dependencies())
    assert said.startswith("qcompile 0.")


def test_installed_package_is_the_wheels_and_finds_its_passes(environment: Path) -> None:
    code = (
        "import qcompiler; from qcompiler import passes, registry; print(qcompiler.__file__)\n"
        "[registry.find_pass(name) for name in passes.TABLE]; registry.find_target('orin')"
    )
    where = run([str(environment), "-c", code], environment.parent, PYTHONPATH=dependencies())
    assert str(environment.parent.parent) in where


def test_plug_ins_pass_and_target_are_found(environment: Path) -> None:
    code = (
        "import onnx_ir as ir\n"
        "from qcompiler import registry\n"
        "assert 'rename-outputs' in registry.pass_names() and 'test-board' in registry.target_names()\n"
        'model = ir.from_onnx_text(\'<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y) '
        "{ y = Relu(x) }')\n"
        "outcome = registry.find_pass('rename-outputs')().run(model)\n"
        "print(outcome.matched, model.graph.outputs[0].name, registry.find_target('test-board').title)"
    )
    said = run([str(environment), "-c", code], environment.parent, PYTHONPATH=dependencies())
    assert said.strip() == "('y',) plugin_y a board that only this test knows"


def test_command_lists_the_plug_ins_target(environment: Path) -> None:
    said = run(
        [str(environment), "-m", "qcompiler", "targets"], environment.parent, PYTHONPATH=dependencies(), COLUMNS="200"
    )
    assert "test-board" in said and "orin" in said
