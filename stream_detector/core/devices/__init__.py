"""The memory of devices: every device is one row across named arrays.

Read `table` (arrays that grow together), `registry` (names and slots), `acceptance` (which readings are
new), then `snapshot` and `snapshot_rows` (a device's whole memory as one value, written and put back).
"""
