"""Detectors: rows or windows in, scores out; each keeps the promise of `core.scoring.detector`.

`default/` is the built-in one, `light` the cheap one before it (`builtin` names both); `pyod` runs models
that were trained, of which `forest`, `hbos` and `ecod` have code of their own.
"""
