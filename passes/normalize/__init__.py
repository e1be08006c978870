"""Passes that bring any exporter's graph into one form."""
