"""`python -m qcompiler.review action|lint|diff`: what the GitHub Action and the hooks of pre-commit run."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from qcompiler.errors import QcompileError


def main(words: Sequence[str]) -> int:
    """Run; an error of the user's is one line, in GitHub's form where the action runs."""
    action = list(words) == ["action"]
    try:
        if action:
            from qcompiler.review.action import run_action

            return run_action(os.environ, Path.cwd())
        from qcompiler.review.hooks import run_hook

        return run_hook(words, os.environ, Path.cwd())
    except QcompileError as error:
        print(f"::error title=qcompile::{error}" if action else f"qcompile: error: {error}")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
