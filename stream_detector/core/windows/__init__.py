"""Windows: the last N readings of each device (`rolling`), and what models see of them (`features`)."""
