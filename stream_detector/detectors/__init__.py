"""Detectors: rows or windows in, scores out; each keeps the promise of `core.detector`."""
