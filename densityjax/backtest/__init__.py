"""The backtester: one scan over time, rules as the vector axis."""
