"""The running service: one hot thread that turns messages into decisions, and decisions into effects.

Its one idea: nothing leaves before it is on disk. Read in this order:

    assembly         what the service is made of, and in which order it is put together
    loop             one turn of the hot thread; gaps, ticks, reloads and errors
    processing       messages and records -> a decision: records, events, publications, counts
    delivery         the decision written, reported, acknowledged, published
    persistence      what of a decision goes to disk, and the transaction that is open
    recovery         how memory comes back from disk
    admission        which devices may join
    commands         what the service is asked, and what it answers
    announcements    how the service appears at the broker
    other_instances  who else publishes under the same base topic
    watchdog         ends the process when the hot thread hangs
    clock            the one clock that all of this is stamped by
"""
