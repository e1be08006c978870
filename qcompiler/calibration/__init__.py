"""Calibration: data readers, observers, the table, and the runner that joins them."""
