"""Passes that tidy a graph after rewriting."""
