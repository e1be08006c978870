"""onnxruntime on CPUs: targets and integer kernels."""
