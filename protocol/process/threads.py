"""The variables that hold numeric libraries to one thread. They count when numpy is imported; this imports none."""

from __future__ import annotations

from collections.abc import MutableMapping

# Two threads that wait for each other on a busy core are slower than one, and a fleet has more processes than cores.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)


def limit_threads(environ: MutableMapping[str, str]) -> None:
    """One thread for each library of which ``environ`` says nothing else."""
    for name, count in ONE_THREAD.items():
        environ.setdefault(name, count)
