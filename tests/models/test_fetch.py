"""Pinned files from fake registries: pip over a local folder of wheels, npm as a script on PATH."""

from __future__ import annotations

import hashlib
import io
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from models import fetch
from models.download import FetchError
from models.zoo import MissingAsset

WHEEL = "tiny_model-1.0-py3-none-any.whl"
METADATA = b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
LABEL = b"Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the fake npm is a script with a shebang")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip and npm take for the only registry; the cache is tmp_path/cache."""
    folder = tmp_path / "registry"
    (folder / "bin").mkdir(parents=True)
    monkeypatch.setenv("QCOMPILE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PATH", str(folder / "bin"))
    return folder


def put_wheel(folder: Path, files: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
        for name, content in {"METADATA": METADATA, "WHEEL": LABEL, "RECORD": b""}.items():
            wheel.writestr(f"tiny_model-1.0.dist-info/{name}", content)


def put_npm(folder: Path, files: Mapping[str, bytes], *, link: str = "") -> str:
    """A fake npm that copies one archive to where it runs and counts its calls; SHA-256 of the archive."""
    archive = folder / "tiny-1.0.0.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        if link:
            entry = tarfile.TarInfo(link)
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(entry)
    script = folder / "bin" / "npm"
    script.write_text(
        f"#!{sys.executable}\nimport shutil, sys\n"
        f"open({str(folder / 'calls')!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
        f"shutil.copy({str(archive)!r}, '.')\n"
    )
    script.chmod(0o755)
    return digest(archive.read_bytes())


def calls(folder: Path) -> int:
    return len((folder / "calls").read_text().splitlines())


def test_a_member_is_downloaded_once(registry: Path, tmp_path: Path) -> None:
    put_wheel(registry, {"tiny_model/a.bin": b"weights"})
    file = fetch.pypi_file("tiny-model==1.0", "tiny_model/a.bin", digest(b"weights"))
    assert file.read_bytes() == b"weights"
    (registry / WHEEL).unlink()
    assert fetch.pypi_file("tiny-model==1.0", "tiny_model/a.bin", digest(b"weights")) == file
    assert not list((tmp_path / "cache").rglob("*partial*")) and not list((tmp_path / "cache").rglob("*.whl"))


def test_an_installed_file_is_used_only_where_its_hash_is_right(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_wheel(registry, {"tiny_model/a.bin": b"pinned"})
    site = tmp_path / "site"
    (site / "tiny_model").mkdir(parents=True)
    (site / "tiny_model" / "a.bin").write_bytes(b"pinned")
    monkeypatch.syspath_prepend(str(site))
    assert fetch.pypi_file("tiny-model==1.0", "tiny_model/a.bin", digest(b"pinned")).is_relative_to(site)
    (site / "tiny_model" / "a.bin").write_bytes(b"of another version")
    file = fetch.pypi_file("tiny-model==1.0", "tiny_model/a.bin", digest(b"pinned"))
    assert file.read_bytes() == b"pinned" and not file.is_relative_to(site)


def test_a_damaged_cache_is_redone(registry: Path) -> None:
    put_wheel(registry, {"tiny_model/a.bin": b"weights"})
    file = fetch.pypi_file("tiny-model==1.0", "tiny_model/a.bin", digest(b"weights"))
    file.write_bytes(b"w")
    assert fetch.pypi_file("tiny-model==1.0", "tiny_model/a.bin", digest(b"weights")).read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("content", "member", "reason"),
    [
        (b"other", "tiny_model/a.bin", "is not the pinned"),
        (b"weights", "tiny_model/b.bin", "the wheel has no file tiny_model/b.bin"),
        (b"weights", "../evil", "refusing the path"),
    ],
)
def test_a_wrong_wheel_leaves_nothing(registry: Path, tmp_path: Path, content: bytes, member: str, reason: str) -> None:
    put_wheel(registry, {"tiny_model/a.bin": content, "../evil": b"weights"})
    with pytest.raises(FetchError, match=reason):
        fetch.pypi_file("tiny-model==1.0", member, digest(b"weights"))
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_data_may_come_from_the_wheel_of_another_python(registry: Path) -> None:
    put_wheel(registry, {"tiny_model/a.bin": b"weights"})
    other = "tiny_model-1.0-cp399-none-any.whl"
    (registry / WHEEL).rename(registry / other)
    members = {"tiny_model/a.bin": digest(b"weights")}
    with pytest.raises(FetchError):
        fetch.pypi_files("tiny-model==1.0", members)
    assert fetch.pypi_files("tiny-model==1.0", members, python="3.99")["tiny_model/a.bin"].read_bytes() == b"weights"


def test_offline_is_one_line(registry: Path) -> None:
    with pytest.raises(FetchError, match=r"pip download tiny-model==1\.0 failed: ERROR: .*are you offline") as caught:
        fetch.pypi_file("tiny-model==1.0", "tiny_model/a.bin", digest(b"weights"))
    assert "\n" not in str(caught.value)


def test_without_leave_nothing_is_downloaded(registry: Path) -> None:
    put_wheel(registry, {"tiny_model/a.bin": b"weights"})
    with pytest.raises(MissingAsset, match="python -m models get"):
        fetch.pypi_file("tiny-model==1.0", "tiny_model/a.bin", digest(b"weights"), fetch=False)
    with pytest.raises(MissingAsset, match="not in the cache"):
        fetch.npm_package("tiny", "1.0.0", "0" * 64, fetch=False)


def test_npm_members_are_extracted_as_they_are_asked_for(registry: Path) -> None:
    files = {"package/a/1.txt": b"one", "package/b/2.txt": b"two", "package/package.json": b"{}"}
    sha256 = put_npm(registry, files)
    folder = fetch.npm_package("@me/tiny", "1.0.0", sha256, ("a/*",))
    assert sorted(path.name for path in folder.iterdir()) == [".members.json", "a"]
    assert fetch.npm_package("@me/tiny", "1.0.0", sha256, ("b/*",)) == folder
    assert (folder / "b" / "2.txt").read_bytes() == b"two"
    assert calls(registry) == 1, "the archive is kept until all of it is extracted"
    fetch.npm_package("@me/tiny", "1.0.0", sha256)
    assert not list(folder.parent.glob("*.tgz"))
    fetch.npm_package("@me/tiny", "1.0.0", sha256, ("a/*",))
    assert calls(registry) == 1
    (folder / "a" / "1.txt").unlink()
    fetch.npm_package("@me/tiny", "1.0.0", sha256)
    assert calls(registry) == 2 and (folder / "a" / "1.txt").read_bytes() == b"one"


@pytest.mark.parametrize(("name", "link"), [("package/../../evil", ""), ("package/ok", "package/link")])
def test_npm_paths_that_leave_the_folder_are_refused(registry: Path, tmp_path: Path, name: str, link: str) -> None:
    sha256 = put_npm(registry, {name: b"x"}, link=link)
    with pytest.raises(FetchError, match=r"refusing the path|not a regular file"):
        fetch.npm_package("tiny", "1.0.0", sha256)
    assert not list(tmp_path.rglob("evil"))


def test_npm_with_another_archive_and_without_npm(registry: Path, tmp_path: Path) -> None:
    put_npm(registry, {"package/a": b"x"})
    with pytest.raises(FetchError, match="is not the pinned"):
        fetch.npm_package("tiny", "1.0.0", "0" * 64)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    shutil.rmtree(registry / "bin")
    with pytest.raises(FetchError, match=r"npm is missing, which tiny@1\.0\.0 needs"):
        fetch.npm_package("tiny", "1.0.0", "0" * 64)


def test_a_password_in_an_address_is_not_printed(registry: Path) -> None:
    script = registry / "bin" / "npm"
    script.write_text("#!/bin/sh\necho 'npm error network https://me:secret@host/tiny unreachable' >&2\nexit 1\n")
    script.chmod(0o755)
    with pytest.raises(FetchError, match="host/tiny unreachable") as caught:
        fetch.npm_package("tiny", "1.0.0", "0" * 64)
    assert "secret" not in str(caught.value)
