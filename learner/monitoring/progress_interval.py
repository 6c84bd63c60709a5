"""How often progress is written down, so that little is written however long a run is. Pure; ``now`` is given.

A line for each ``share`` by which the run grew: a plot over all of it shows no more. Its age is in environment steps,
as they go on through its lives: a run that is begun again every minute writes little more than one that never ends.

progress.jsonl is drawn. At a steady pace it has a line every RECORD_S for 500 s, and from then on every 1/2000 of the
time so far: 12,000 lines in a day, and twice as many in a year. A log is read, and kept by whoever collects logs: it
has a line every LOG_S for five minutes, then every 1/300 of the time so far, which is 12 s after an hour, and one a
minute after five: 3,000 lines in the first day, 1,440 in each later one.
"""

from __future__ import annotations

import math

RECORD_S = 0.25  # least time between lines: a fast run has a curve too
SHARE = 1.0 / 2000.0
LOG_S = 1.0  # the same for a log
LOG_SHARE = 1.0 / 300.0
LIVELY_S = 10.0  # of each life, in which a log's share is not asked for: whoever resumes a run sees that it goes on
SILENT_S = 60.0  # most time between them, so that a run that stands still says so: 1,440 lines a day


class ProgressInterval:
    """When the next line is due. lively_s: from a life's first steps on, for which lines come ``least_s`` apart."""

    def __init__(self, least_s: float = RECORD_S, share: float = SHARE, lively_s: float = 0.0) -> None:
        self._least_s, self._share, self._lively_s = least_s, share, lively_s
        self._at, self._stepping_at = -math.inf, math.inf
        self._env_steps = -1

    def due(self, env_steps: int, now: float) -> bool:
        """Whether one is to be written now, which is then taken for written. now: seconds, of any steady clock."""
        passed_s, more = now - self._at, env_steps - self._env_steps
        if 0 <= self._env_steps < env_steps:
            self._stepping_at = min(self._stepping_at, now)
        share = 0.0 if now - self._stepping_at < self._lively_s else self._share
        grown = more >= max(1.0, share * self._env_steps)
        if passed_s < self._least_s or not (grown or passed_s >= SILENT_S):
            return False
        self._at, self._env_steps = now, env_steps
        return True


def of_a_log() -> ProgressInterval:
    """For lines that are read and kept elsewhere."""
    return ProgressInterval(LOG_S, LOG_SHARE, LIVELY_S)
