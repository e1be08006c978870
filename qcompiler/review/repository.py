"""The few questions that a review puts to git."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from qcompiler.errors import UsageError


@dataclass(frozen=True, slots=True)
class Repository:
    """A working tree with its history."""

    root: Path

    @classmethod
    def of(cls, folder: Path) -> Repository:
        """The repository that `folder` lies in.

        Raises:
            UsageError: It lies in none, or git is not installed.
        """
        found = Repository(folder)._try("rev-parse", "--show-toplevel")
        if found is None:
            raise UsageError("not a git repository", where=str(folder), hint="check the model's repository out first")
        return cls(Path(found.decode().strip()))

    def commit(self, name: str) -> str | None:
        """The commit called `name`; None where it isn't here."""
        found = self._try("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        return None if found is None else found.decode().strip()

    def base_commit(self, base: str, head: str) -> str:
        """Where `head` left `base`; `base` itself where a shallow clone hides that.

        Raises:
            UsageError: The base is not here and cannot be fetched.
        """
        if self.commit(base) is None:
            self._try("fetch", "--quiet", "--depth=1", "origin", base)
        known = self.commit(base)
        if known is None:
            hint = "let actions/checkout fetch it: `fetch-depth: 0`"
            raise UsageError(f"the base {base!r} is not in this clone", hint=hint)
        found = self._try("merge-base", known, head)
        return known if found is None else found.decode().strip()

    def changes(self, base: str, head: str) -> list[tuple[str, str, str]]:
        """(letter of the status, path before, path after) of each changed file; for renamed ones the paths differ."""
        fields = self._run("diff", "--name-status", "-z", "-M", base, head).decode().split("\0")
        found = []
        place = 0
        while place < len(fields) - 1:
            letter = fields[place][0]
            moved = letter in "RC"
            before, after = fields[place + 1], fields[place + (2 if moved else 1)]
            place += 3 if moved else 2
            found.append(("A", after, after) if letter == "C" else (letter, before, after))
        return found

    def files(self, commit: str) -> list[str]:
        """Every file of a commit."""
        return [name for name in self._run("ls-tree", "-r", "-z", "--name-only", commit).decode().split("\0") if name]

    def size(self, version: str) -> int | None:
        """Bytes of a blob such as `HEAD:model.onnx`, or `:model.onnx` for what is staged; None where there is none."""
        found = self._try("cat-file", "-s", version)
        return None if found is None else int(found)

    def write(self, version: str, file: IO[bytes]) -> None:
        """Write a blob that exists; it is never held in memory."""
        file.flush()
        subprocess.run(["git", "cat-file", "blob", version], cwd=self.root, stdout=file, check=True)

    def lfs_folder(self) -> Path:
        """Where git-lfs keeps its objects."""
        chosen = self._try("config", "--get", "lfs.storage")
        common = Path(self._run("rev-parse", "--git-common-dir").decode().strip())
        folder = Path(chosen.decode().strip()) if chosen else Path("lfs")
        return self.root / common / folder / "objects"

    def smudge(self, pointer: bytes, file: IO[bytes]) -> bool:
        """Let git-lfs fetch what a pointer stands for; False where it isn't installed or has no such object."""
        file.flush()
        done = subprocess.run(
            ["git", "lfs", "smudge"], cwd=self.root, input=pointer, stdout=file, stderr=subprocess.PIPE, check=False
        )
        return done.returncode == 0

    def _run(self, *words: str) -> bytes:
        done = subprocess.run(["git", *words], cwd=self.root, capture_output=True, check=False)
        if done.returncode:
            raise UsageError(f"git {words[0]} failed: {done.stderr.decode(errors='replace')[:200]}")
        return done.stdout

    def _try(self, *words: str) -> bytes | None:
        try:
            done = subprocess.run(["git", *words], cwd=self.root, capture_output=True, check=False)
        except FileNotFoundError:
            raise UsageError("git is not installed") from None
        return done.stdout if done.returncode == 0 else None
