"""Certificates: float rewrites, or any two float models, proven to compute the same on given inputs."""
