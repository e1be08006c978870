"""`python -m qcompiler` is `qcompile`."""

import sys

from qcompiler.cli import main

sys.exit(main())
