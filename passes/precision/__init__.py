"""Passes that change the float type that carries a graph."""
