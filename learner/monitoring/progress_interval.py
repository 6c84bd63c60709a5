"""How often progress is written down, so that progress.jsonl stays small however long a run is. Pure; ``now`` is given.

A line for each 1/2000 by which the run grew: a plot over all of it shows no more. Its age is in environment steps, as
they go on through its lives: a run that is begun again every minute writes little more than one that never ends. At
a steady pace that is every RECORD_S for 500 s, and from then on every 1/2000 of the time so far: 12,000 lines, 5 MB, in
a day, and twice as many in a year.
"""

from __future__ import annotations

import math

RECORD_S = 0.25  # least time between lines: a fast run has a curve too
SHARE = 1.0 / 2000.0
SILENT_S = 60.0  # most time between them, so that a run that stands still says so: 1,440 lines a day


class ProgressInterval:
    """When the next line is due."""

    def __init__(self) -> None:
        self._at = -math.inf
        self._env_steps = -1

    def due(self, env_steps: int, now: float) -> bool:
        """Whether one is to be written now, which is then taken for written. now: seconds, of any steady clock."""
        passed_s = now - self._at
        grown = env_steps >= self._env_steps + max(1.0, SHARE * self._env_steps)
        if passed_s < RECORD_S or not (grown or passed_s >= SILENT_S):
            return False
        self._at, self._env_steps = now, env_steps
        return True
