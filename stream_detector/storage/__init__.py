"""What outlives the process: journal, outbox and device rows in SQLite; nothing else knows it.

Its one idea: everything that was decided together is one transaction. Read in this order:

    change      what one transaction writes, as a value
    store       a process's hold on its state_dir: commit, close
    writer      how a change is written
    reader      what stands there, read back
    codec       records and device states <-> bytes
    schema      opening the database: whose, whole, of which version; `migrations` from older ones
    history     moves the journal's past into files of an hour (`segments`)
    tidying     which records a start still needs
    journal     history and tail, read as one list
    dirty       which device rows are to be written next
    backup      a copy while the service runs
    connection  the one door to SQLite
"""
