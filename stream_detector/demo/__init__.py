"""A simulated plant whose faults are known: for trying, and for tests."""
