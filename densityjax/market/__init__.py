"""Bars: reading, repairing, simulating, features and splits."""
