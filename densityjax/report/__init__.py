"""The page of a run, from its folder alone."""
