"""Rewrites that keep the float function and make tensors easier to quantize."""
