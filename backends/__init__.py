"""Targets: name to "module:attribute". Third parties add theirs with the entry-point group `qcompiler.targets`."""

if __name__ != "qcompiler.backends":
    raise ImportError("import qcompiler.backends; the folder backends/ is not a package of its own")

TABLE: dict[str, str] = {
    "ort-cpu": "qcompiler.backends.onnxruntime.targets:ORT_CPU",
    "ort-cpu-arm64": "qcompiler.backends.onnxruntime.targets:ORT_CPU_ARM64",
    "orin-jp6": "qcompiler.backends.tensorrt.targets:ORIN_JP6",
    "orin-jp7": "qcompiler.backends.tensorrt.targets:ORIN_JP7",
}
