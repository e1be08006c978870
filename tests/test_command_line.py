"""The command in the report asks for the same compile again."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from qcompiler.cli import _settings
from qcompiler.command_line import command_line
from qcompiler.commands.compile import parser
from qcompiler.config import COMPILE_SETTINGS, to_options
from qcompiler.options import CompileOptions

CHANGES: dict[str, Any] = {
    "target": "orin", "calib": "calib.npz", "validate": Path("held"), "preprocess": "imagenet", "carrier": "fp32",
    "rotate": "heads,down", "goal_sqnr": 31.25, "float_share": 0.05, "bits": "w6a6", "bits_file": Path("bits.toml"),
    "portable": True, "include": ("a b", "-c"), "exclude": ("/head/.*", "$x"), "exclude_op": ("Conv", "Gemm"),
    "plan": Path("plan.json"), "min_sqnr": 12.345678901, "min_cosine": -0.5, "max_samples": 7, "softmax_bits": 5,
    "shapes": {"x:0": ((1, 3), (2, 3), (4, 3)), "y": ((5,), (5,), (5,))}, "passes": ("-fold-affine", "+sum-to-add"),
    "verify": False, "strict": True, "seed": 9,
}  # fmt: skip
_WORDS = {name: [word for part in (kind, *get_args(kind)) if get_origin(part) is Literal for word in get_args(part)
                 if word not in (getattr(CompileOptions(), name), "percentile")]
          for name, kind in get_type_hints(CompileOptions).items() if name not in CHANGES}  # fmt: skip
CHANGES |= {name: words[-1] for name, words in _WORDS.items() if words}


def parsed(line: str) -> CompileOptions:
    """What the command line makes of it."""
    words = shlex.split(line)
    assert words[:2] == ["qcompile", "m.onnx"]
    args = vars(parser().parse(words[1:]))
    return to_options(_settings(args, []))


def test_the_default_is_short() -> None:
    assert command_line("deep/m.onnx", CompileOptions()) == "qcompile m.onnx --target ort-cpu"


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_each_option_comes_back(name: str) -> None:
    changed = CompileOptions(**{name: CHANGES[name]})
    found, wanted = getattr(parsed(command_line("m.onnx", changed)), name), CHANGES[name]
    assert str(found) == str(wanted) if name in ("calib", "validate") else found == wanted


def test_no_option_is_forgotten() -> None:
    assert set(CHANGES) == set(COMPILE_SETTINGS) - {"percentile", "dump_after", "dump_dir", "threads"}
    found = parsed(command_line("m.onnx", CompileOptions(method="percentile", percentile=99.5)))
    assert (found.method, found.percentile) == ("percentile", 99.5)


def test_paths_lose_their_folders_and_objects_have_a_stand_in() -> None:
    options = CompileOptions(calib="/secret/calib/", plan=Path("/secret/p.json"), validate=[{}])
    line = command_line("/secret/a b.onnx", options)
    assert line == "qcompile 'a b.onnx' --target ort-cpu --calib calib --validate DATA --plan p.json"
