"""Recurrences over time: selective scans of state-space models, as one Scan, as fast as the runtime allows."""
