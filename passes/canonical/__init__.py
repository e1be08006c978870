"""Passes that recognise decomposed operators (LayerNormalization, Gelu, ...) and put the single operator."""
