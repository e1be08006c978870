"""What changed between two models, matched by structure and not by names."""
