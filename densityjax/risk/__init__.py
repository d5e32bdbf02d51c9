"""Risk of a forecast: tails, coverage tests, scoring rules and the baselines to beat."""
