"""Where readings come from when no broker brings them: one file a source.

Read `recordings` (files -> rows in the order of time), then `playing` (rows -> records, with few ticks).
A source yields the records that the live service would have made, so the core gives the same events for
both.

    recordings   CSV and JSON lines
"""
