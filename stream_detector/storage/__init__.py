"""What outlives the process: journal, outbox and device rows in SQLite; nothing else knows it."""
