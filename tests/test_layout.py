"""The packages named in pyproject.toml, the tables of names and the import structure are what is on disk."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from qcompiler import backends, passes, registry
from qcompiler.pipeline import Pass
from qcompiler.target import Target

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {
    "qcompiler": ROOT / "qcompiler",
    "qcompiler.passes": ROOT / "passes",
    "qcompiler.backends": ROOT / "backends",
}
HEAVY = ("torch", "tensorrt", "tensorrt_rtx", "onnxruntime", "onnxscript", "transformers", "rich")


def packages_on_disk() -> set[str]:
    """Every folder with an __init__.py, by its import name."""
    found = set()
    for name, folder in SOURCES.items():
        for init in folder.rglob("__init__.py"):
            parts = init.parent.relative_to(folder).parts
            if name == "qcompiler" and parts[:1] in (("passes",), ("backends",)):
                continue  # reached through the links; counted where they really are
            found.add(".".join((name, *parts)))
    return found


def packages_in_pyproject() -> list[str]:
    """The list under [tool.setuptools]; read without tomllib, which Python 3.10 lacks."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^packages = (\[.*?\])", text, re.M | re.S)
    assert block is not None
    found: list[str] = ast.literal_eval(block.group(1))
    return found


def test_packages_in_pyproject_are_the_packages_on_disk() -> None:
    listed = packages_in_pyproject()
    assert sorted(set(listed)) == sorted(listed), "a package is listed twice"
    assert set(listed) == packages_on_disk()


def test_no_folder_of_code_lacks_its_init() -> None:
    for folder in (ROOT / "passes", ROOT / "backends", ROOT / "qcompiler"):
        for file in folder.rglob("*.py"):  # rglob does not follow the links
            if file.parent.name == "data":  # files that are written into bundles, never imported
                continue
            assert (file.parent / "__init__.py").exists(), f"{file.parent} has code but no __init__.py"


@pytest.mark.parametrize("name", sorted(passes.TABLE))
def test_every_pass_imports_and_bears_its_name(name: str) -> None:
    found = registry.find_pass(name)
    assert issubclass(found, Pass)
    assert found.name == name
    module = passes.TABLE[name].partition(":")[0]
    assert module.rpartition(".")[2] == name.replace("-", "_"), "a pass lives in the file named for it"


@pytest.mark.parametrize("name", sorted(backends.TABLE))
def test_every_target_imports_and_bears_its_name(name: str) -> None:
    target = registry.find_target(name)
    assert isinstance(target, Target)
    assert target.name == name
    emitter = registry.make_emitter(target)
    assert all(callable(getattr(emitter, method)) for method in ("legalize", "extra_files", "check", "lint"))
    if target.host:
        assert registry.find_target(target.host).name == target.host


def test_aliases_are_unique_and_lead_to_their_target() -> None:
    targets = [registry.find_target(name) for name in registry.target_names()]
    names = [name for target in targets for name in (target.name, *target.aliases)]
    assert len(set(names)) == len(names)
    assert all(registry.find_target(alias) is target for target in targets for alias in target.aliases)
    assert registry.find_target("orin").name.startswith("orin-")


def run_python(code: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    "statement", ["import qcompiler", "import qcompiler.cli", "import qcompiler.passes, qcompiler.backends"]
)
def test_importing_loads_nothing_heavy(statement: str) -> None:
    done = run_python(f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))")
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert not loaded & set(HEAVY)


def test_tables_can_be_listed_without_importing_a_row() -> None:
    code = "from qcompiler import registry\nregistry.pass_names(), registry.target_names()"
    done = run_python(f"import sys\n{code}\nprint(*sys.modules)")
    assert done.returncode == 0, done.stderr
    rows = {reference.partition(":")[0] for reference in (*passes.TABLE.values(), *backends.TABLE.values())}
    assert not rows & set(done.stdout.split())


@pytest.mark.parametrize("name", ["passes", "backends"])
def test_the_folders_refuse_to_be_packages_of_their_own(name: str) -> None:
    done = run_python(f"import {name}")
    assert done.returncode != 0
    assert f"import qcompiler.{name}" in done.stderr


def imported_modules(file: Path) -> set[str]:
    """Modules that a file imports at any depth."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return found | {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}


def test_passes_know_no_backend() -> None:
    for file in (ROOT / "passes").rglob("*.py"):
        assert not any(name.startswith("qcompiler.backends") for name in imported_modules(file)), file


def test_backends_know_only_their_own() -> None:
    for folder in (entry for entry in (ROOT / "backends").iterdir() if entry.is_dir() and entry.name != "__pycache__"):
        own = f"qcompiler.backends.{folder.name}"
        for file in folder.rglob("*.py"):
            foreign = [
                m for m in imported_modules(file) if m.startswith("qcompiler.backends.") and not m.startswith(own)
            ]
            assert not foreign, f"{file} imports {foreign}"


def test_without_links_the_import_map_finds_both_folders(tmp_path: Path) -> None:
    """Where git makes no links they are small text files; an installed package's finder must stand in."""
    (tmp_path / "qcompiler").mkdir()
    for file in (ROOT / "qcompiler").glob("*.py"):
        (tmp_path / "qcompiler" / file.name).write_bytes(file.read_bytes())
    for name in ("passes", "backends"):
        (tmp_path / "qcompiler" / name).write_text(f"../{name}")
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "import qcompiler, qcompiler.passes, qcompiler.backends\n"
        "print(qcompiler.__file__, len(qcompiler.passes.TABLE), len(qcompiler.backends.TABLE))"
    )
    done = run_python(code, cwd=tmp_path)
    if "No module named 'qcompiler.passes'" in done.stderr:
        pytest.skip("the package is not installed here: nothing can stand in for the links")
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stdout
    assert done.stdout.split()[1:] == [str(len(passes.TABLE)), str(len(backends.TABLE))]
