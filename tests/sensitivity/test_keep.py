"""Which layers are kept, and that the file names exactly their nodes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from qcompiler.errors import UsageError
from qcompiler.options import CompileOptions
from qcompiler.precision import Precision, read_bits_file
from qcompiler.sensitivity.keep import check_keep, compile_line, file_text, keep_layers
from qcompiler.sensitivity.result import Fidelity, Layer, LayerSensitivity

NONE = Fidelity(20.0, None, 0.99, None)


def layer(name: str, work: int) -> Layer:
    return Layer(name, (name,), "MatMul", work, work / 100, NONE, NONE)


LAYERS = (layer("/a.0/MatMul", 30), layer('q"uo\\te', 5), layer("c", 15), layer("d", 50))


def found(layers: tuple[Layer, ...] = LAYERS) -> LayerSensitivity:
    return LayerSensitivity("m\n.onnx", "ort-cpu", "w4a4", "node", "sqnr", {}, 1, layers)


@pytest.mark.parametrize(
    ("share", "count", "names"),
    [
        (0.2, None, ['q"uo\\te', "c"]),
        (0.35, None, ["/a.0/MatMul", 'q"uo\\te']),
        (None, 1, ["/a.0/MatMul"]),
        (0.2, 1, ['q"uo\\te']),
        (None, None, ['q"uo\\te']),
        (1.0, 9, [item.name for item in LAYERS]),
    ],
)
def test_the_most_sensitive_that_fit(share: float | None, count: int | None, names: list[str]) -> None:
    assert [item.name for item in keep_layers(LAYERS, share, count)] == names


def test_a_share_that_nothing_fits_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"--share: no layer is as small as 0.01 .* \(the smallest is 0.05\)"):
        keep_layers(LAYERS, 0.01, None)


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_a_bits_file_reads_back_and_its_patterns_match_one_name_each(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"bits{suffix}"
    text = file_text(found(), CompileOptions(), LAYERS[:2], "w8a8", json_form=suffix == ".json")
    file.write_text(text, encoding="utf-8")
    patterns = read_bits_file(file)
    assert list(patterns.values()) == [Precision(8, 8)] * 2
    for pattern, kept in zip(patterns, LAYERS, strict=False):
        assert [item.name for item in LAYERS if re.search(pattern, item.name)] == [kept.name]
    assert not re.search(next(iter(patterns)), "/ax0/MatMul") and not re.search(next(iter(patterns)), "/a.0/MatMul_1")


def test_a_config_has_excludes(tmp_path: Path) -> None:
    from qcompiler.config import read_file

    file = tmp_path / "float.toml"
    file.write_text(file_text(found(), CompileOptions(), LAYERS[:2], "float", json_form=False), encoding="utf-8")
    excluded = read_file(file)["exclude"]
    assert [bool(re.search(pattern, item.name)) for pattern, item in zip(excluded, LAYERS, strict=False)] == [True] * 2
    assert json.dumps(file.read_text()).count("\\n") == 5  # the model's name ends no comment


def test_what_was_given_stays_in_the_file_as_a_compile_takes_one_of_a_kind(tmp_path: Path) -> None:
    given = tmp_path / "given.toml"
    given.write_text('"head" = "w6a6"\n"^c$" = "w6a6"\n')
    options = CompileOptions(bits_file=given, exclude=("^d$",))
    merged = json.loads(file_text(found(), options, (layer("c", 1),), "w8a8", json_form=True))
    assert list(merged.items()) == [("head", "w6a6"), ("^c$", "w8a8")]
    text = file_text(found(), options, (layer("c", 1),), "w8a8", json_form=False)
    assert text.splitlines()[1:] == ['"head" = "w6a6"', '"^c$" = "w8a8"']
    text = file_text(found(), options, (layer("c", 1),), "float", json_form=False)
    assert text.splitlines()[2:-1] == ['  "^d$",', '  "^c$",']


def test_the_compile_has_the_options_that_layers_were_measured_with() -> None:
    assert compile_line(found(), CompileOptions(), "--bits-file", "b.toml") == (
        "qcompile 'm\n.onnx' --bits w4a4 --bits-file b.toml"
    )
    options = CompileOptions(target="orin", method="percentile", percentile=99.9, exclude=("^a b$", "c"),
                             bits_file=Path("given.toml"), rotate="gated", softmax_bits=4)  # fmt: skip
    line = compile_line(found(), options, "--bits-file", "b.toml").partition("b.toml ")[2]
    assert line == (
        "--target orin --exclude '^a b$' --exclude c --method percentile:99.9 --rotate gated --softmax-bits 4"
    )
    line = compile_line(found(), options, "--config", "f.toml")
    assert "--bits-file given.toml" in line and "--exclude" not in line


@pytest.mark.parametrize(
    ("keep", "bits", "file", "message"),
    [
        ("7", "w4a4", "b.toml", "--keep: '7' is no precision to keep"),
        ("8", "w8a8", "b.toml", "--keep: 8 bits are no more than w8a8"),
        ("6", "w4a8", "b.toml", "--keep: 6 bits are no more than w4a8"),
        ("8", "w4a4", "b.txt", "--write: a bits file is TOML or JSON"),
        ("float", "w8a8", "b.json", "--write: a config is TOML"),
    ],
)
def test_what_cannot_be_kept_is_named(keep: str, bits: str, file: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_keep(keep, bits, Path(file))
    assert check_keep("8", "w4a16", Path("b.toml")) == "w8a8" and check_keep("6", "w4a4", Path("b.json")) == "w6a6"
