"""Side-by-side measurements of qcompile and onnxruntime's own quantizers on real models."""
