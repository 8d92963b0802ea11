"""Verdicts on readings: a detector's score, where 1.0 is the threshold, and rules that need no model.

Read `detector` (the promise that each keeps), `calibration` (a model's own number -> a score),
`rules` (range, stuck, silence), `layouts` (the devices that report the same channels, scored together,
each detector a `scorer`), `placement` (which device stands in which layout), `batch` (all verdicts on a
batch, in arrival order).
"""
