"""TensorRT on Jetson: targets, legalization, lint, engine scripts."""
