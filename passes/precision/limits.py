"""What float16 can hold."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

HALF_MAX: Final = 65504.0
HALF_MIN_NORMAL: Final = 2.0**-14


def scale_is_unfit(scale: np.ndarray[Any, Any]) -> bool:
    """Whether float16 can't carry a scale: subnormal (fewer than 11 bits, and older parsers refuse it), or 127 steps
    overflow."""
    return bool(scale.size) and bool(scale.min() < HALF_MIN_NORMAL or 127.0 * float(scale.max()) > HALF_MAX)
