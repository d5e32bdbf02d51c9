"""How good a density or a forecast is."""
