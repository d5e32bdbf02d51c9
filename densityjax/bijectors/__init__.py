"""Invertible maps with log-determinants; every function acts on one example."""
