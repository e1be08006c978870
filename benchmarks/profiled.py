"""Copy a model with shape profiles taken from its calibration data, so that NVIDIA's builder is asked the same of all.

python -m benchmarks.profiled NAME FILE OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import models


def main() -> int:
    """Entry point."""
    import onnx
    import onnx_ir as ir

    from qcompiler.backends.tensorrt.profiles import METADATA_KEY, shape_profiles, write_profiles

    name, file, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    model = models.load(name)
    shapes = ir.load(file)
    seen = [{key: array.shape for key, array in feeds.items()} for feeds in (*model.calibration(), model.timing())]
    write_profiles(shapes, shape_profiles(shapes, {}, seen))
    proto = onnx.load(str(file))
    kept = {entry.key: entry.value for entry in proto.metadata_props}
    kept.setdefault(METADATA_KEY, shapes.metadata_props.get(METADATA_KEY, "{}"))
    onnx.helper.set_model_props(proto, kept)
    onnx.save(proto, str(out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
