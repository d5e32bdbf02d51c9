"""Losses of one example; noise and negatives are handed in."""
