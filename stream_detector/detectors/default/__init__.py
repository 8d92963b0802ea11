"""The built-in detector `default`: learns each channel of each device by itself, and holds what it has found.

A channel is looked at in five ways (`views.py`): its value, its average at this hour, how much it moves from
reading to reading, how long it stays about the same, and its steps. Each view knows what was usual and says
when that is left; while one of them finds a fault, nothing is learned from it, so the fault stays one until
the channel is back or has shown for long enough that this is how it is now.

Read `channel.py` first: what happens with one reading. Then `cover.py` (the value), `bands.py` (views with
a usual range), `hours.py` and `dwell.py`; `pace.py` says how the channel reports. `memory.py` has the arrays,
`detector.py` the detector. docs/detection.md explains it with pictures.
"""
