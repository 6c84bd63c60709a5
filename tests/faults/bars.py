"""What a drill asks for and whether it got it. Pure. A drill's record is its figures and these."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import quantiles
from typing import Any

Record = dict[str, Any]


def at_most(what: str, value: float | None, limit: float) -> Record:
    """A bar that a larger value misses, and no value at all."""
    return {
        "bar": what,
        "is": _short(value),
        "limit": f"at most {limit:g}",
        "held": value is not None and value <= limit,
    }


def at_least(what: str, value: float | None, limit: float) -> Record:
    """A bar that a smaller value misses, and no value at all."""
    held = value is not None and value >= limit
    return {"bar": what, "is": _short(value), "limit": f"at least {limit:g}", "held": held}


def exactly(what: str, value: float, wanted: float) -> Record:
    """A bar that any other value misses."""
    return {"bar": what, "is": _short(value), "limit": f"{wanted:g}", "held": value == wanted}


def record(bars: Sequence[Record], **figures: object) -> Record:
    """What a drill leaves."""
    return {**figures, "bars": list(bars), "held": all(bar["held"] for bar in bars)}


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that this share of them does not exceed; None of fewer than two."""
    if len(values) < 2:
        return None
    return quantiles(values, n=1000, method="inclusive")[round(1000 * share) - 1]


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Least squares, in values per time; 0 where there is nothing to fit."""
    mean_t, mean_v = sum(times) / len(times), sum(values) / len(values)
    spread = sum((t - mean_t) ** 2 for t in times)
    return sum((t - mean_t) * (v - mean_v) for t, v in zip(times, values, strict=True)) / spread if spread else 0.0


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
