"""What environments measure of themselves, ``info["metrics"]``, as means by name. Pure. Knows numpy.

A dict of plain numbers may stand in the info of any step or reset. What is no such number is left out and counted:
nobody stops training because of what is only drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actor.environments.child_protocol import Measured
from protocol.messages import MAX_METRIC, MAX_METRICS, Metric

KEY = "metrics"
NAME_CHARACTERS = 64  # the wire's bound
NUMBERS = "fiub"  # kinds of numpy's types


class MetricBook:
    """Means since they were last taken. The first MAX_METRICS names that come keep their places.

    left_out: how often something was, since the beginning. first_left_out: what the first was, in words.
    """

    def __init__(self) -> None:
        self.left_out, self.first_left_out = 0, ""
        self._sums: dict[str, tuple[float, int]] = {}  # and counts, by name

    def take_out(self, info: Any) -> Any:
        """Books the metrics in the info of one environment; the info without them, itself where it has none."""
        if not isinstance(info, dict) or KEY not in info:
            return info
        found = info[KEY]
        if not isinstance(found, Mapping):
            self._leave_out(f"info[{KEY!r}] is {type(found).__name__}, not a dict of numbers")
            found = {}
        for name, value in found.items():
            if self._admits(name):
                self._add(name, value)
        return {key: value for key, value in info.items() if key != KEY}

    def add_batch(self, info: Mapping[str, Any], count: int) -> None:
        """Books the metrics in the info of a vector of ``count`` environments, as Gymnasium's vectors have it: arrays
        by name, beside each a mask of the environments that said something, ``_name``. So has ``final_info``.
        """
        for held in (info, info.get("final_info")):
            if isinstance(held, Mapping) and KEY in held:
                self._add_arrays(held[KEY], count)

    def _add_arrays(self, found: Any, count: int) -> None:
        if not isinstance(found, Mapping):
            return self._leave_out(f"info[{KEY!r}] of a vector is {type(found).__name__}, not a dict of arrays")
        for name, values in found.items():
            masks = isinstance(name, str) and name.startswith("_") and name[1:] in found
            if masks or not self._admits(name):
                continue
            present = found.get(f"_{name}", np.ones(count, np.bool_))
            if _fits(values, count) and _fits(present, count) and present.dtype == np.bool_:
                self._add_rows(name, values[present])
            else:
                self._leave_out(f"info[{KEY!r}][{name!r}] is no array of {count} numbers, one for each environment")
        return None

    def _add_rows(self, name: str, told: NDArray[Any]) -> None:
        """told: [N]; at once where they are sound, as nearly always."""
        if told.dtype.kind in NUMBERS and len(told):
            numbers = told.astype(np.float64)
            if bool((np.abs(numbers) <= MAX_METRIC).all()):
                return self._book(name, float(numbers.mean()), len(numbers))
        for value in told:
            self._add(name, value)
        return None

    def _admits(self, name: object) -> bool:
        """Whether it has a place or gets one."""
        if name in self._sums:
            return True
        if not isinstance(name, str) or not 1 <= len(name) <= NAME_CHARACTERS or not name.isprintable():
            shown = repr(name)[:NAME_CHARACTERS]
            self._leave_out(
                f"a name in info[{KEY!r}] is {shown}, not text of 1 to {NAME_CHARACTERS} printable characters"
            )
            return False
        if len(self._sums) >= MAX_METRICS:
            self._leave_out(f"info[{KEY!r}] has more than {MAX_METRICS} names; {name!r} is one too many")
            return False
        self._sums[name] = (0.0, 0)
        return True

    def _add(self, name: str, value: object) -> None:
        number = _number(value)
        if number is None:
            self._leave_out(f"info[{KEY!r}][{name!r}] is {type(value).__name__}, not a number")
        elif not abs(number) <= MAX_METRIC:
            self._leave_out(f"info[{KEY!r}][{name!r}] is {number}, not finite and within ±{MAX_METRIC:g}")
        else:
            self._book(name, number, 1)

    def _book(self, name: str, mean: float, count: int) -> None:
        total, counted = self._sums[name]
        self._sums[name] = (total + mean * count, counted + count)

    def _leave_out(self, why: str, times: int = 1) -> None:
        self.left_out += times
        self.first_left_out = self.first_left_out or why

    def take(self) -> tuple[Metric, ...]:
        """The means since the last call."""
        taken = tuple(Metric(name, total / count, count) for name, (total, count) in self._sums.items() if count)
        self._sums = dict.fromkeys(self._sums, (0.0, 0))
        return taken

    def take_measured(self) -> Measured | None:
        """The same with what was left out since, for another process; None where there is nothing."""
        measured = Measured(self.take(), self.left_out, self.first_left_out)
        self.left_out, self.first_left_out = 0, ""
        return measured if measured.metrics or measured.left_out else None

    def merge(self, measured: Measured) -> None:
        """Books what another process measured."""
        for metric in measured.metrics:
            if self._admits(metric.name):
                self._book(metric.name, metric.mean, metric.count)
        if measured.left_out:
            self._leave_out(measured.first_left_out, measured.left_out)


def joined(earlier: tuple[Metric, ...], later: tuple[Metric, ...]) -> tuple[Metric, ...]:
    """One mean for each name of either, at most MAX_METRICS."""
    book = MetricBook()
    book.merge(Measured((*earlier, *later)))
    return book.take()


def _fits(values: object, count: int) -> bool:
    return isinstance(values, np.ndarray) and values.shape == (count,)


def _number(value: object) -> float | None:
    """As a float; None for what is no number."""
    if isinstance(value, np.ndarray | np.generic):
        return float(value) if value.shape == () and value.dtype.kind in NUMBERS else None
    try:
        return float(value) if isinstance(value, int | float) else None
    except OverflowError:
        return math.inf
