"""How two bundles were made: target, options, calibration, versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FREE = ("calib", "validate", "dump_dir", "log_file", "threads")
"""Options that name places or do not change the result."""


def recipe_lines(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Lines for a reader, and the same as {"key": [before, after]}, of what differs between two manifests."""
    ours, theirs = _recipe(first), _recipe(second)
    differing = {
        key: [ours.get(key), theirs.get(key)] for key in sorted({*ours, *theirs}) if ours.get(key) != theirs.get(key)
    }
    return [f"recipe: {key} {_word(one)} -> {_word(other)}" for key, (one, other) in differing.items()], differing


def _recipe(manifest: Mapping[str, Any]) -> dict[str, Any]:
    calibration = manifest.get("calibration", {})
    found = {key: manifest.get(key) for key in ("target", "carrier")}
    found |= {key: value for key, value in manifest.get("options", {}).items() if key not in (*_FREE, "target")}
    found |= {f"calibration {key}": calibration.get(key) for key in ("source", "samples", "method", "fingerprint")}
    found["source sha256"] = manifest.get("source", {}).get("sha256")
    return found | {f"version of {name}": value for name, value in manifest.get("versions", {}).items()}


def _word(value: Any) -> str:
    text = "none" if value in (None, [], "", {}) else str(value)
    return text if len(text) <= 24 else f"{text[:16]}…"
