"""The argument parser: errors as one line with the nearest names, and the arguments that verbs share."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from qcompiler.config import nearest
from qcompiler.errors import UsageError

DATA = ("preprocess", "max_samples")
"""Options that say how samples are read."""


class Parser(argparse.ArgumentParser):
    """argparse without abbreviations, raising UsageError where argparse prints and exits."""

    def __init__(self, prog: str, description: str, epilog: str | None = None) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            add_help=False,
            argument_default=argparse.SUPPRESS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("-h", "--help", action="help", help="print this and exit")

    def error(self, message: str) -> NoReturn:
        """What argparse found wrong."""
        raise UsageError(message, hint=f"{self.prog} --help lists what there is")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse all of `arguments`.

        Raises:
            UsageError: An unknown option, with the nearest ones; a missing or surplus argument.
        """
        self._reject_unknown(arguments)
        found, rest = self.parse_known_args(arguments)
        if rest:
            self._reject_unknown(rest)
            raise UsageError(f"unexpected argument {rest[0]!r}", hint=f"{self.prog} --help lists what there is")
        return found

    def _reject_unknown(self, arguments: Sequence[str]) -> None:
        for word in arguments:
            if word == "--":
                return
            option = word.partition("=")[0]
            if option.startswith("--") and option not in self._option_string_actions:
                known = [name for name in self._option_string_actions if name.startswith("--")]
                raise UsageError(f"unknown option {option}", hint=nearest(option, known))
            if len(word) > 1 and word[0] == "-" and word[1].isalpha() and word[:2] not in self._option_string_actions:
                raise UsageError(f"unknown option {word}", hint=nearest(word, self._option_string_actions))


def add_shared(parser: argparse.ArgumentParser) -> None:
    """Arguments of every verb: how much is said and where."""
    group = parser.add_argument_group("output of this command")
    group.add_argument("--json", action="store_true", help="the report as JSON on stdout, and nothing else there")
    group.add_argument("-v", "--verbose", action="count", help="more words; twice for every diagnostic; tracebacks")
    group.add_argument("-q", "--quiet", action="store_true", help="only errors and the exit status")
    group.add_argument("--log-file", metavar="FILE", help="append diagnostics and tracebacks to FILE")


def add_data(
    parser: argparse._ArgumentGroup | argparse.ArgumentParser,
    without: str = "without it inputs are synthetic",
    *,
    several: bool = True,
    made_up: bool = True,
) -> None:
    """Where samples come from.

    Args:
        without: What the help says of a command without them.
        several: More than one sample is read.
        made_up: Inputs may be synthetic.
    """
    parser.add_argument(
        "--calib",
        metavar="D",
        help=".npz, .npy, a folder of these, onnxruntime test_data_set folders, "
        f"an image folder, or module:factory; {without}",
    )
    parser.add_argument("--preprocess", metavar="HOW", help="for image folders: imagenet, or mean,std")
    if several:
        parser.add_argument("--max-samples", metavar="N", help="read at most N samples")
    if made_up:
        parser.add_argument("--seed", metavar="N", help="seed of synthetic inputs (0)")
    parser.add_argument("--threads", metavar="N", help="onnxruntime threads; 0 lets it choose")


def check_data(args: argparse.Namespace, settings: Mapping[str, Any], names: Sequence[str] = DATA) -> None:
    """That options on samples come with samples.

    Raises:
        UsageError: One of `names` stands on the command line, and there is no `calib`.
    """
    lost = next((name for name in names if hasattr(args, name)), "")
    if lost and settings.get("calib") is None:
        raise UsageError("is about the samples of --calib, and there are none", where=f"--{lost.replace('_', '-')}",
                         hint="give --calib D, or leave it out")  # fmt: skip
