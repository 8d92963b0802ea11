"""Model bundles: fit, save, verify, load, and replace while running."""
