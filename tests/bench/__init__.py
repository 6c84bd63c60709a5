"""The whole system beside the bare machine and its peers: ``python -m tests.bench``, or ``make bench``."""
