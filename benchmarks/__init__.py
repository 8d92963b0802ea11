"""How fast the whole service is, on a real broker and against a bare paho client in the same run.

Absolute rates on a shared machine move up to threefold with the neighbours' load; ratios taken in one
run and CPU time a message do not. So those are what is compared with a floor.
"""
