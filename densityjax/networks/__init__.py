"""Neural networks as `Network(init, apply)`; the only importer of flax."""
