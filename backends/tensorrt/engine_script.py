"""build_engine.sh: trtexec on the device, with the flags of the version that stands there."""

from __future__ import annotations

from collections.abc import Mapping

from qcompiler.backends.tensorrt.profiles import Profile
from qcompiler.target import Target

_SCRIPT = """\
#!/usr/bin/env bash
# Builds model.plan from model.onnx on the device: engines and timing caches fit one GPU and one TensorRT version.
# Usage: ./build_engine.sh [ONNX] [PLAN]      TRTEXEC=/path/to/trtexec to choose the binary, EXTRA="..." for more flags.
# Written for {title}.
set -euo pipefail
here="$(cd "$(dirname "${{BASH_SOURCE[0]}}")" && pwd)"
onnx="${{1:-$here/model.onnx}}"
plan="${{2:-${{onnx%.onnx}}.plan}}"

find_trtexec() {{
  for candidate in "${{TRTEXEC:-}}" trtexec /usr/src/tensorrt/bin/trtexec /usr/local/tensorrt/bin/trtexec; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1; then
      command -v "$candidate"
      return
    fi
  done
  echo "build_engine.sh: trtexec not found; set TRTEXEC or install the package tensorrt (libnvinfer-bin)" >&2
  exit 2
}}
trtexec="$(find_trtexec)"

# The banner reads "[TensorRT v100300]" or "[TensorRT v110401]": major * 10000 + minor * 100 + patch.
banner="$("$trtexec" --help 2>&1 | sed -n 's/.*\\[TensorRT v\\([0-9]*\\)\\].*/\\1/p' | head -n 1 || true)"
version="${{banner:-{version}}}"
typing=()
if [ "$version" -lt 100000 ]; then
  echo "build_engine.sh: TensorRT $version is too old, this graph needs 10.0 or later" >&2
  exit 2
fi
if [ "$version" -lt 110000 ]; then
  typing=(--stronglyTyped)  # 11.x knows nothing else and has no such need
fi

shapes=({shapes})

"$trtexec" --onnx="$onnx" --saveEngine="$plan" "${{typing[@]+"${{typing[@]}}"}}" "${{shapes[@]+"${{shapes[@]}}"}}" \\
  --timingCacheFile="$here/timing.cache" --builderOptimizationLevel=3 --memPoolSize=workspace:2048 \\
  --profilingVerbosity=detailed --exportLayerInfo="$here/layers.json" --skipInference ${{EXTRA:-}}
echo "wrote $plan"

# Measure INT8 against FP16 on the device: the same command on both engines, clocks fixed, medians compared.
#   sudo nvpmodel -m 0 && sudo jetson_clocks
#   bench="--useCudaGraph --useSpinWait --noDataTransfers --warmUp=500 --duration=10 --iterations=200"
#   "$trtexec" --loadEngine="$plan" $bench{bench_shapes}
# The FP16 side: the float source model, built weakly typed on 10.x (on 11.x convert it to FP16 first).
#   "$trtexec" --onnx=float.onnx --fp16 --saveEngine=float_fp16.plan{build_shapes} --skipInference
#   "$trtexec" --loadEngine=float_fp16.plan $bench{bench_shapes}
# Per-layer times of the INT8 engine:
#   "$trtexec" --loadEngine="$plan" --dumpProfile --separateProfileRun --exportProfile=profile.json{bench_shapes}
"""


def engine_script(target: Target, profiles: Mapping[str, Profile]) -> bytes:
    """The script as bytes; the same target and profiles give the same bytes."""
    kinds = enumerate(("min", "opt", "max")) if profiles else ()
    flags = [f"--{kind}Shapes={_spec(profiles, which)}" for which, kind in kinds]
    bench = f" --shapes={_spec(profiles, 1)}" if profiles else ""
    major, minor = target.options["tensorrt"].split(".")
    text = _SCRIPT.format(
        title=target.title,
        version=int(major) * 10000 + int(minor) * 100,
        shapes=" ".join(_quote(flag) for flag in flags),
        bench_shapes=bench,
        build_shapes="".join(f" {flag}" for flag in flags),
    )
    return text.encode()


def _spec(profiles: Mapping[str, Profile], which: int) -> str:
    return ",".join(f"{name}:{'x'.join(map(str, shapes[which]))}" for name, shapes in sorted(profiles.items()))


def _quote(flag: str) -> str:
    return "'" + flag.replace("'", "'\\''") + "'"
