"""The words for bits, the file that names nodes, and which target takes int4 blocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qcompiler.errors import UsageError
from qcompiler.filters import node_precisions
from qcompiler.options import CompileOptions
from qcompiler.precision import W8A8, Precision, parse_precision, read_bits_file
from qcompiler.registry import find_target
from qcompiler.weight_only import with_block_opset
from tests.small_models import transformer_block


@pytest.mark.parametrize("weights", [4, 6, 8])
@pytest.mark.parametrize("activations", [4, 6, 8])
def test_weights_and_activations_mix(weights: int, activations: int) -> None:
    word = f"w{weights}a{activations}"
    found = parse_precision(word, "here")
    assert found == Precision(weights, activations)
    assert (str(found), found.weight_only) == (word, False)


def test_weight_only() -> None:
    assert parse_precision("w4a16", "here").weight_only


@pytest.mark.parametrize("word", ["w5a8", "w8a5", "w16a16", "w6a16", "w8", "a8w8", "W8A8", "w8a8 ", "", 8, None])
def test_other_words_are_refused(word: object) -> None:
    with pytest.raises(UsageError, match="no precision") as caught:
        parse_precision(word, "--bits")
    assert "w" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "text"), [("b.toml", '"^q$" = "w8a8"\nout = "w6a8"\n'), ("b.json", '{"^q$": "w8a8", "out": "w6a8"}')]
)
def test_a_file_names_nodes(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert list(read_bits_file(tmp_path / name).items()) == [("^q$", W8A8), ("out", Precision(6, 8))]
    found = node_precisions(transformer_block(), CompileOptions(bits="w4a4", bits_file=tmp_path / name))
    assert found.of("q") == W8A8
    assert found.of("out") == Precision(6, 8)
    assert found.of("k") == Precision(4, 4)


def test_the_last_pattern_that_matches_counts(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text('{".": "w6a6", "^q$": "w8a8"}')
    found = node_precisions(transformer_block(), CompileOptions(bits_file=tmp_path / "b.json"))
    assert (found.of("q"), found.of("k")) == (W8A8, Precision(6, 6))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "no table"),
        ("{}", "no table"),
        ('{"q": "w9a9"}', "no precision"),
        ('{"q": {"weights": 4}}', "no precision"),
        ('{"^quux": "w8a8"}', "matches no node"),
        ('{"(": "w8a8"}', "not a regular expression"),
    ],
)
def test_what_a_file_cannot_say(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bits.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        node_precisions(transformer_block(), CompileOptions(bits_file=path))
    assert "bits.json" in str(caught.value)


def test_a_pattern_without_a_match_gets_the_nearest_names(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text('{"scoress": "w8a8"}')
    with pytest.raises(UsageError) as caught:
        node_precisions(transformer_block(), CompileOptions(bits_file=tmp_path / "b.json"))
    assert "scores" in str(caught.value.hint)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        read_bits_file(tmp_path / "none.toml")


OPSETS = {"ort-cpu": 21, "ort-cpu-arm64": 20, "orin-jp6": 21, "orin-jp7": 23}


@pytest.mark.parametrize(("name", "opset"), OPSETS.items())
def test_blocks_raise_the_opset_where_the_graph_holds_them(name: str, opset: int) -> None:
    target = find_target(name)
    assert with_block_opset(target, CompileOptions(bits="w4a16")).opset == opset
    assert with_block_opset(target, CompileOptions(bits="w4a8")) is target


def test_a_file_may_ask_for_blocks(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text('{"q": "w4a16"}')
    assert with_block_opset(find_target("orin"), CompileOptions(bits_file=tmp_path / "b.json")).opset == 21


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("ort-cpu", {"portable": True}, ("com.microsoft", "--portable")),
        ("orin", {"portable": True}, ("com.microsoft", "--portable")),
        ("ort-cpu", {"plan": Path("p.json")}, ("a plan says itself",)),
    ],
)
def test_refusals_say_what_to_leave_out(target: str, options: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        with_block_opset(find_target(target), CompileOptions(bits="w4a16", **options))
    assert all(word in str(caught.value) for word in words)


def test_a_target_without_blocks_says_what_it_takes() -> None:
    full = find_target("ort-cpu")
    target = replace(full, name="bare", placement=replace(full.placement, int4_blocks=()))
    with pytest.raises(UsageError, match="bare has no int4") as caught:
        with_block_opset(target, CompileOptions(bits="w4a16"))
    assert "w6a6" in str(caught.value.hint)
