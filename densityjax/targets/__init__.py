"""Known laws with exact log density, score and sampler."""
