"""Losses of one example; noise and negatives are handed in."""

from densityjax.losses.likelihood import negative_log_likelihood

__all__ = ["negative_log_likelihood"]
