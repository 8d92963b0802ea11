"""Alerts: from verdicts on single readings to a state that lasts.

Read `track` (what is told and remembered), `machine` (the life of one alert, as a pure function) and its
`policy`, `observing` (what a reading says to them), `stream_alerts` (all machines of a stream, the one loop
over single readings), `device_states` (what is published of a device), `explanation` and `sentences` (what an
alert says to a person).
"""
