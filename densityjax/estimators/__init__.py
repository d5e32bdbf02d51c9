"""The scikit-learn face: batches, NumPy in and out."""
