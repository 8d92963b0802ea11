"""Where readings come from when no broker brings them: one file a source.

A source yields the records that the live service would have made, so the core gives the same events for
both.

    recordings   CSV and JSON lines
"""
