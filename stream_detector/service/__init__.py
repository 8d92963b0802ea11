"""The running service: one hot thread that turns messages into decisions, and decisions into effects.

Its one idea: nothing leaves before it is on disk. Read in this order:

    assembly         what the service is made of, and in which order it is put together; its threads
    loop             one turn of the hot thread; `hearing`, when devices could be heard at all
    engine           all that decides and reports, without sockets and files: `replay` uses it, too
      memory           the devices; `scoring_models`, which model scores what
      admission        which devices may join
      processing       messages and records -> a `decision`: records, events, publications, counts
      reporting        a decision counted and shown to the readers of the events
    delivery         the decision written, reported, acknowledged, published; `broker_target`
    persistence      what of a decision goes to disk, and the transaction that is open
    recovery         how memory comes back from disk
    connection       what lasts as long as a connection; `start_records`, what everything begins with
    commands         what the service is asked, and what it answers; `broker_requests`, over MQTT
    announcements    how the service appears at the broker
    other_instances  who else publishes under the same base topic; `instance`, our own name
    fleet_view       devices and alerts, for other threads to read
    watchdog         ends the process when the hot thread hangs
    clock            the one clock that all of this is stamped by
"""
