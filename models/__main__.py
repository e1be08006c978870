"""python -m models list | get NAME... | score NAME | train NAME | scores"""

from __future__ import annotations

import sys

from models.command import main

if __name__ == "__main__":
    sys.exit(main())
