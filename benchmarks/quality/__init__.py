"""How right the alerts and scores are: ``make quality``.

The shipped configuration, through the same core as ``stream-detector replay``, row by row in time. A
simulated plant says what people feel of alerts (`plant`, judged by `judge`); public data sets say how the
scores compare with published ones. Nothing here detects anything, and nothing is set for one file or family.

Read `product` first (a recording in; scores, open alerts and events out), then `figures` (the table).
"""
