"""The files that an entry takes out of pinned packages, with their hashes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class WheelFiles:
    """Members of a wheel, path to SHA-256; `python` as for `download.pip_download`."""

    requirement: str
    members: Mapping[str, str]
    python: str = ""

    def file(self, member: str) -> Path:
        """Where the member is; MissingAsset where it has not been fetched or installed."""
        from models.fetch import pypi_file

        return pypi_file(self.requirement, member, self.members[member], fetch=False)

    def fetch(self) -> None:
        """Download what is missing."""
        from models.fetch import pypi_files

        pypi_files(self.requirement, self.members, python=self.python)

    def describe(self) -> dict[str, object]:
        """For the card."""
        return {"pypi": self.requirement, "sha256": dict(self.members)}


@dataclass(frozen=True, slots=True)
class NpmFiles:
    """Members of an npm package: patterns, and the SHA-256 of the whole archive."""

    name: str
    version: str
    sha256: str
    members: tuple[str, ...] = ("*",)

    def folder(self, *, fetch: bool = False) -> Path:
        """The folder they are in; MissingAsset where they have not been fetched, unless `fetch`."""
        from models.fetch import npm_package

        return npm_package(self.name, self.version, self.sha256, self.members, fetch=fetch)

    def fetch(self) -> None:
        """Download what is missing."""
        self.folder(fetch=True)

    def describe(self) -> dict[str, object]:
        """For the card."""
        return {"npm": f"{self.name}@{self.version}", "members": list(self.members), "sha256": self.sha256}
