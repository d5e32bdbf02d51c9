"""From forecasts and densities to signals and target positions."""
