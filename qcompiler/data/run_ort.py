#!/usr/bin/env python3
"""Run this bundle's model on onnxruntime. Needs onnxruntime and numpy, nothing else.

python run_ort.py --check                replay golden/ and exit 1 where an output leaves its tolerance
python run_ort.py inputs.npz [out.npz]   run your own inputs (keys are input names)
python run_ort.py --stream inputs.npz [out.npz]   one run for each item of the leading axis, states carried along
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="?", help=".npz with one array per input")
    parser.add_argument("outputs", nargs="?", help=".npz to write")
    parser.add_argument("--check", action="store_true", help="replay golden/, exit status 1 outside tolerance")
    parser.add_argument("--stream", action="store_true", help="run by run, carrying states along")
    parser.add_argument("--no-hash", action="store_true", help="do not compare files with manifest.json")
    parser.add_argument("--file", help="another file of the bundle, such as model.ort")
    parser.add_argument("--provider", default="CPUExecutionProvider", help="onnxruntime execution provider")
    arguments = parser.parse_args()
    manifest = read_manifest()
    if not arguments.no_hash:
        check_files(manifest)
    session = open_session(arguments.provider, arguments.file)
    check_signature(session, manifest)
    if arguments.stream:
        return stream_inputs(session, manifest, arguments.inputs, arguments.outputs)
    if arguments.inputs:
        return run_inputs(session, arguments.inputs, arguments.outputs)
    return replay(session, arguments.check)


def read_manifest() -> dict[str, Any]:
    """manifest.json."""
    try:
        manifest = json.loads((HERE / "manifest.json").read_bytes())
        manifest["files"], manifest["inputs"], manifest["outputs"]
        return dict(manifest)
    except OSError as error:
        sys.exit(f"run_ort.py: manifest.json can't be read: {error.strerror}")
    except (ValueError, KeyError, TypeError):
        sys.exit("run_ort.py: manifest.json is damaged")


def check_files(manifest: dict[str, Any]) -> None:
    """Every file named in manifest.json is there and unchanged."""
    for name, entry in manifest["files"].items():
        path = HERE / name
        if not path.is_file():
            sys.exit(f"run_ort.py: {name} is missing")
        digest = hashlib.sha256()
        with path.open("rb") as file:
            for piece in iter(lambda: file.read(1 << 20), b""):
                digest.update(piece)
        if digest.hexdigest() != entry["sha256"]:
            sys.exit(f"run_ort.py: {name} differs from manifest.json (sha256)")


def open_session(provider: str, file: str | None) -> Any:
    """host.onnx where the target has one (model.onnx is then for another runtime), else model.onnx; or `file`."""
    import onnxruntime as ort

    host = HERE / "host.onnx"
    path = HERE / file if file else host if host.is_file() else HERE / "model.onnx"
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # onnxruntime raises many unrelated types
        sys.exit(f"run_ort.py: onnxruntime {ort.__version__} refuses {path.name}: {first_line(error)}")


def check_signature(session: Any, manifest: dict[str, Any]) -> None:
    """Names and element types of inputs and outputs are the manifest's."""
    for kind, actual in (("inputs", session.get_inputs()), ("outputs", session.get_outputs())):
        found = {item.name: item.type for item in actual}
        wanted = {item["name"]: f"tensor({item['dtype']})" for item in manifest[kind]}
        if found != wanted:
            sys.exit(f"run_ort.py: the model's {kind} are {found}; manifest.json says {wanted}")


def first_line(error: Exception) -> str:
    """The first line of an error's text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def run(session: Any, feeds: dict[str, Any]) -> dict[str, Any]:
    """Outputs by name."""
    names = [item.name for item in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, feeds), strict=True))
    except Exception as error:  # onnxruntime raises many unrelated types
        sys.exit(f"run_ort.py: the model does not run on these inputs: {first_line(error)}")


def read_inputs(source: str) -> dict[str, Any]:
    """The arrays of an .npz."""
    try:
        with np.load(source) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, AttributeError) as error:
        sys.exit(f"run_ort.py: {source} is not read as .npz: {first_line(error)}")


def stream_inputs(session: Any, manifest: dict[str, Any], source: str | None, destination: str | None) -> int:
    """Run after run: array[i] is the input of run i, states begin at zero (codes 0 where they are int8), and what a
    run leaves is the next one's state. Outputs that are no states are stacked; of states the last values are kept.

    First states in the file, by the name of their input or output, are rounded where they are floats and the model
    takes codes."""
    pairs = {item["input"]: item["output"] for item in manifest.get("states", ())}
    if not pairs or not source:
        sys.exit("run_ort.py: " + ("--stream needs inputs.npz" if pairs else "the model carries no state"))
    given = read_inputs(source)
    inputs = {item.name: item for item in session.get_inputs()}
    missing = [name for name in inputs if name not in pairs and name not in given]
    counts = {len(given[name]) if given[name].ndim else 0 for name in inputs if name in given and name not in pairs}
    if missing or len(counts) != 1 or not min(counts):
        reason = f"lacks {', '.join(missing)}" if missing else "has no leading axis of runs that all inputs share"
        sys.exit(f"run_ort.py: {source} {reason}")
    feeds = [{name: given[name][turn] for name in inputs if name not in pairs} for turn in range(counts.pop())]
    sizes: dict[Any, int] = {}
    for name, array in feeds[0].items():
        sizes.update(zip(inputs[name].shape, array.shape, strict=False))
    first = {name: given[name if name in given else last] for name, last in pairs.items() if {name, last} & set(given)}
    scales = {item["input"]: item["scale"] for item in manifest["states"] if "scale" in item}
    for array, dims in ((array, inputs[name].shape) for name, array in first.items()):
        sizes.update(zip(dims, array.shape, strict=False))
    states = {
        name: in_codes(first[name], scales.get(name)) if name in first else zeros(inputs[name], sizes) for name in pairs
    }
    found: dict[str, list[Any]] = {}
    outputs: dict[str, Any] = {}
    start = time.perf_counter()
    for feed in feeds:
        outputs = run(session, {**feed, **states})
        states = {name: outputs[output] for name, output in pairs.items()}
        for name in outputs.keys() - set(pairs.values()):
            found.setdefault(name, []).append(outputs[name])
    seconds = time.perf_counter() - start
    stacked = {name: np.stack(arrays) for name, arrays in sorted(found.items())}
    for name, array in stacked.items():
        print(f"{name}: {array.dtype} {list(array.shape)}")
    print(f"{len(feeds)} runs, {seconds / len(feeds) * 1e3:.2f} ms each, {len(pairs)} states carried")
    if destination:
        kept: dict[str, Any] = {**stacked, **{name: outputs[name] for name in pairs.values()}}
        np.savez(destination, **kept)
    return 0


def in_codes(array: Any, scale: float | None) -> Any:
    """Floats rounded to the codes that the model takes, half to even."""
    if scale is None or array.dtype.kind != "f":
        return array
    return np.clip(np.rint(array.astype(np.float32) / np.float32(scale)), -128, 127).astype(np.int8)


def zeros(item: Any, sizes: dict[Any, int]) -> Any:
    """A state before the first run; a size that no other input tells is 0 (a cache that grows)."""
    words = {"float": "float32", "float16": "float16", "double": "float64"}
    word = item.type.removeprefix("tensor(").removesuffix(")")
    return np.zeros([dim if isinstance(dim, int) else sizes.get(dim, 0) for dim in item.shape], words.get(word, word))


def run_inputs(session: Any, source: str, destination: str | None) -> int:
    """The user's own inputs."""
    given = read_inputs(source)
    wanted = [item.name for item in session.get_inputs()]
    missing = [name for name in wanted if name not in given]
    if missing:
        sys.exit(f"run_ort.py: {source} lacks {', '.join(missing)}; the inputs are {', '.join(wanted)}")
    outputs = run(session, {name: given[name] for name in wanted})
    for name, array in outputs.items():
        print(f"{name}: {array.dtype} {list(array.shape)}")
    if destination:
        np.savez(destination, **outputs)
    return 0


def replay(session: Any, check: bool) -> int:
    """golden/: outputs against those of the compile, each within its tolerance."""
    golden = HERE / "golden"
    sources = sorted(golden.glob("*.inputs.npz"), key=lambda path: int(path.name.split(".")[0]))
    if not sources:
        print("run_ort.py: the bundle has no golden samples")
        return 1 if check else 0
    bounds = json.loads((golden / "tolerances.json").read_text())
    failed = False
    for source in sources:
        with np.load(source) as archive:
            feeds = {name: archive[name] for name in archive.files}
        start = time.perf_counter()
        outputs = run(session, feeds)
        seconds = time.perf_counter() - start
        with np.load(source.with_name(source.name.replace(".inputs.", ".outputs."))) as archive:
            for name in archive.files:
                fine, words = within(outputs[name], archive[name], bounds[name])
                failed = failed or not fine
                verdict, number = "ok  " if fine else "FAIL", source.name.split(".")[0]
                print(f"{verdict} sample {number} {name}: {words} ({seconds * 1e3:.1f} ms)")
    print("FAILED" if failed else "PASSED")
    return 1 if failed and check else 0


def within(got: Any, want: Any, bound: dict[str, float]) -> tuple[bool, str]:
    """Whether an output is inside its tolerance, and how it was judged."""
    if got.shape != want.shape:
        return False, f"shape {list(got.shape)}, expected {list(want.shape)}"
    if "agreement" in bound:
        share = float(np.mean(got.astype(want.dtype) == want)) if want.size else 1.0
        return share >= bound["agreement"], f"{share:.2%} equal, bound {bound['agreement']:.0%}"
    got, want = got.astype(np.float64), want.astype(np.float64)
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    with np.errstate(invalid="ignore"):
        error = float(np.max(np.where(same, 0.0, np.abs(got - want)), initial=0.0))
    return error <= bound["atol"], f"largest difference {error:.3g}, bound {bound['atol']:.3g}"


if __name__ == "__main__":
    sys.exit(main())
