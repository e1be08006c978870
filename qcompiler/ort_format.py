"""onnxruntime's own file format, which minimal builds read: `model.ort` and the operators that such a build must have.

The graph is the one that onnxruntime optimized here, without rewrites that depend on this processor: blocked layouts of
Conv, and int8 turned to uint8 where VNNI is missing. The file is a flatbuffer, so it ends at 2 GB, and it is read by
the onnxruntime that wrote it and newer ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qcompiler.errors import UnsupportedError, VerificationError
from qcompiler.session import Arrays, Feeds

MODEL, OPERATORS = "model.ort", "required_operators.config"
_PROCESSORS_OWN = ["NchwcTransformer", "QDQS8ToU8Transformer"]


def write_ort(source: Path, folder: Path, golden: Sequence[Feeds]) -> None:
    """Write model.ort and required_operators.config for the ONNX file `source`.

    Args:
        golden: Inputs on which both files must give the same, bit for bit.

    Raises:
        UnsupportedError: onnxruntime can't write the graph in its format, as beyond 2 GB.
        VerificationError: The written file computes something else.
    """
    import onnxruntime as ort

    path = folder / MODEL
    try:
        plain = _session(source, path)
    except Exception as error:  # onnxruntime raises many unrelated types
        first = str(error).strip().split("\n")[0][:300]
        raise UnsupportedError(f"onnxruntime {ort.__version__} can't write {MODEL}: {first}",
                               where="--format ort", hint="leave it out") from error  # fmt: skip
    written = _session(path)
    for feeds in golden:
        one, other = _run(plain, feeds), _run(written, feeds)
        if any(one[name].tobytes() != array.tobytes() for name, array in other.items()):
            raise VerificationError(f"{MODEL} computes something else than {source.name}", hint="please report")
    from onnxruntime.tools.ort_format_model import create_config_from_models

    config = folder / OPERATORS
    create_config_from_models([path], config, False)
    lines = [line for line in config.read_text().splitlines() if not line.startswith("#")]  # comments name our folders
    config.write_text("\n".join(lines).strip() + "\n")


def _session(path: Path, save_as: Path | None = None) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    if save_as is not None:
        options.optimized_model_filepath = str(save_as)
        options.add_session_config_entry("session.save_model_format", "ORT")
    return ort.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=_PROCESSORS_OWN
    )


def _run(session: Any, feeds: Mapping[str, Any]) -> Arrays:
    names = [item.name for item in session.get_outputs()]
    wanted = {item.name: feeds[item.name] for item in session.get_inputs()}
    return dict(zip(names, session.run(names, wanted), strict=True))
