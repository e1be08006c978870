"""A bundle's graph on onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping

from qcompiler.errors import ModelError, UsageError
from qcompiler.runtime.bundle_folder import BundleFolder
from qcompiler.runtime.signature import Array, check_same


class OnnxruntimeSession:
    """host.onnx where the bundle is for TensorRT, else model.onnx, on onnxruntime's CPU provider.

    Raises:
        UsageError: onnxruntime is not installed.
        ModelError: It refuses the graph, or inputs and outputs are not the manifest's.
    """

    runtime = "onnxruntime"

    def __init__(self, bundle: BundleFolder, threads: int = 0) -> None:
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise UsageError("onnxruntime is not installed", hint="pip install onnxruntime") from error
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        path = bundle.host_model
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises many unrelated types
            first = str(error).strip().split("\n")[0][:300]
            raise ModelError(f"onnxruntime {ort.__version__} refuses it: {first}", where=str(path)) from error
        inputs = {item.name: _element(item.type) for item in self._session.get_inputs()}
        outputs = {item.name: _element(item.type) for item in self._session.get_outputs()}
        for kind, declared, actual in (("inputs", bundle.inputs, inputs), ("outputs", bundle.outputs, outputs)):
            if wrong := check_same(kind, declared, actual, path.name):
                raise ModelError(wrong, where=str(bundle.path), hint="the file is another model's")
        self._outputs = list(outputs)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name."""
        return dict(zip(self._outputs, self._session.run(None, dict(feeds)), strict=True))


def _element(word: str) -> str:
    return word.removeprefix("tensor(").removesuffix(")")
