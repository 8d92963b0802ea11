"""The pure core: records go in, events come out; no clock, socket, file or thread.

Its one idea is the law: however a stream of records is cut into batches, the events are the same.
Read in this order:

    records, events   what goes in, what comes out
    pipeline          one record in, events of all streams out
    stream            a batch's way through one stream
    spec              what the core has to know of a stream
    devices/          memory: names and slots, tables of state, which readings are new, snapshots
    windows/          the last N readings of a device, and feature rows made from them
    scoring/          what detectors and rules say of a reading
    alerts/           the life of an alert: raised, updated, cleared, in words
    kernel            how loops over arrays are compiled
"""
