"""qcompile: ONNX models to INT8 graphs for onnxruntime and TensorRT."""
