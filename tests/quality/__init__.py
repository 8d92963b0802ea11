"""That `make quality` measures what it says: its judge, its faults, and its figures against known values."""
