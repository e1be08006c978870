"""Long tensor names for tables and figures."""

from __future__ import annotations

import re
from collections.abc import Collection

_REPEATED = re.compile(r"_output_0$|encoder/|(?<=LayerNorm)/LayerNormalization|intermediate_act_fn/")
"""What exporters write into every name."""


def short_names(names: Collection[str], width: int) -> dict[str, str]:
    """Names without the scopes that all share and without what exporters repeat, in the middle cut to `width`."""
    first, last = min(names), max(names)
    length = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    start = first[:length].rfind("/") + 1
    return {name: cut(_REPEATED.sub("", name[start:]) or name, width) for name in names}


def cut(name: str, width: int) -> str:
    """The name without its middle where it is longer: the start tells layers apart, the end nodes."""
    return name if len(name) <= width else f"{name[: width // 3]}…{name[width // 3 + 1 - width :]}"
