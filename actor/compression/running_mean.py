"""One running mean for round trips and intervals alike. Pure."""

from __future__ import annotations

DECAY = 0.9  # of what the mean held, for each value


def running_mean(mean: float | None, value: float) -> float:
    """The running mean with one value more. mean: None before the first."""
    return value if mean is None else DECAY * mean + (1.0 - DECAY) * value
