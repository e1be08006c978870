"""Settings from file, environment and flags."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from qcompiler import config
from qcompiler.errors import UsageError
from qcompiler.options import CompileOptions


def test_every_option_has_a_setting_and_every_setting_an_option() -> None:
    assert set(config.COMPILE_SETTINGS) == {item.name for item in fields(CompileOptions)}


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "qcompile.toml"
    path.write_text(
        'target = "orin"\nmin-sqnr = 20\nexclude = ["head", "^x$"]\ncalib = "data.npz"\nportable = true\n'
        'method = "percentile:99.9"\nshapes = { x = [1, 3] }\nseed = 3\n'
    )
    settings = config.read_file(path)
    assert settings["calib"] == str(tmp_path / "data.npz")
    options = config.to_options(settings)
    assert options == CompileOptions(
        target="orin", min_sqnr=20.0, exclude=("head", "^x$"), calib=str(tmp_path / "data.npz"), portable=True,
        method="percentile", percentile=99.9, shapes={"x": ((1, 3),) * 3}, seed=3,
    )  # fmt: skip


def test_a_factory_in_a_file_is_no_path(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('calib = "package.module:factory"\n')
    assert config.read_file(path)["calib"] == "package.module:factory"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('targt = "orin"', r"a\.toml: unknown setting 'targt' \(try target"),
        ("seed = true", "expected a whole number, got True"),
        ("seed = 1.5", "expected a whole number"),
        ("seed = -1", "out of range"),
        ('min-sqnr = "high"', "expected a number"),
        ("min-sqnr = nan", "expected a number"),
        ("min-cosine = 2", "between -1.0 and 1.0"),
        ('method = "kl"', "unknown method 'kl'"),
        ('method = "mse:3"', "mse takes no number"),
        ('method = "percentile:3"', "out of range"),
        ('exclude = "("', "not a regular expression"),
        ("exclude = 3", "expected a list of texts"),
        ('passes = "rotate"', "neither adds nor removes"),
        ('carrier = "bf16"', "one of fp32, fp16"),
        ('build-check = "maybe"', "one of auto, on, off"),
        ('portable = "perhaps"', "expected true or false"),
        ("max-samples = 0", "out of range"),
        ("target = 3", "expected text"),
        ("target = ", "not TOML"),
    ],
)
def test_bad_files_are_usage_errors_of_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text + "\n")
    with pytest.raises(UsageError, match=message) as caught:
        config.read_file(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_one_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the settings"):
        config.read_file(tmp_path / "none.toml")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not TOML"):
        config.read_file(tmp_path / "b.toml")


def test_environment() -> None:
    found, unknown = config.read_environment(
        {
            "QCOMPILE_MIN_SQNR": "21.5",
            "QCOMPILE_EXCLUDE": "a;b",
            "QCOMPILE_FORCE": "1",
            "QCOMPILE_TRAGET": "x",
            "PATH": "",
        }
    )
    assert found == {"min_sqnr": 21.5, "exclude": ("a", "b"), "force": True}
    assert unknown == ["QCOMPILE_TRAGET"]


@pytest.mark.parametrize(("value", "flag"), [("1", True), ("off", False), ("True", True), (False, False)])
def test_flags(value: Any, flag: bool) -> None:
    assert config.checked({"portable": value}, str) == {"portable": flag}


def test_no_verify_is_a_key_and_excludes_bounds(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("no-verify = true\n")
    settings = config.read_file(tmp_path / "a.toml")
    assert config.to_options(settings).verify is False
    with pytest.raises(UsageError, match="--min-cosine: needs the verification"):
        config.to_options({**settings, "min_cosine": 0.9})
