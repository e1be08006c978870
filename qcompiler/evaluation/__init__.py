"""Comparing models on the same inputs."""
