"""What `benchmark.py` times, and what its numbers are worth nothing without."""
