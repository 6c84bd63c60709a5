"""How long an actor waits between hellos that nobody answers, when it says so, and when it gives up. Pure."""

from __future__ import annotations

import math
from random import Random

FIRST_S, LONGEST_S = 0.5, 15.0  # doubled each time, jittered, so that a fleet does not come back as one
DOUBLINGS = 5  # reach the longest; an actor may wait for days, and 2.0**1024 is no float
QUIET_ATTEMPTS = 3  # a learner that starts at the same time needs a few seconds; that is no news
RARELY_S = 3600.0  # between two lines of who waits for days


def wait_s(attempts: int, random: Random) -> float:
    """Before the next hello, after so many that were in vain: from half to one and a half of the doubled time."""
    return min(LONGEST_S, FIRST_S * 2.0 ** min(attempts, DOUBLINGS)) * (0.5 + random.random())


class Backoff:
    """The waits for a learner that has not answered yet, or no longer does. hello_at: when to say hello next.

    since: when it began; None while there is a session. attempts: hellos since the last session.
    """

    def __init__(self, random: Random, give_up_after_s: float = math.inf) -> None:
        self.attempts, self.hello_at = 0, 0.0
        self.since: float | None = None
        self._random, self._give_up_after_s = random, give_up_after_s
        self._log_at = -math.inf
        self._refusal = ""  # of the newest hello that a learner answered with one

    def record_hello(self, now: float) -> None:
        """A hello was sent."""
        if self.since is None:
            self.since = now
        self.hello_at = now + wait_s(self.attempts, self._random)
        self.attempts += 1

    def hurry(self, now: float) -> None:
        """There is somebody to answer a hello."""
        self.hello_at = min(self.hello_at, now + wait_s(1, self._random))

    def start(self, now: float, pause_s: float) -> None:
        """The session is gone."""
        self.since, self.hello_at, self._refusal = now, now + pause_s, ""

    def record_refusal(self, reason: str, detail: str) -> dict[str, object]:
        """A learner answered with this: what a line about it says, and from now on why there is no session."""
        self._refusal = detail or reason
        return {"reason": reason, "detail": detail}

    def end(self) -> None:
        """There is a session."""
        self.attempts, self.since, self._log_at, self._refusal = 0, None, -math.inf, ""

    def waited_s(self, now: float) -> float:
        """Without a session until now; 0 with one."""
        return 0.0 if self.since is None else now - self.since

    def should_log(self, now: float) -> bool:
        """Whether a line is due: at first soon, then whenever it has doubled, at last once an hour."""
        if self.attempts <= QUIET_ATTEMPTS or now < self._log_at:
            return False
        self._log_at = now + min(RARELY_S, self.waited_s(now))
        return True

    def is_over(self, now: float) -> bool:
        """Whether it has waited for as long as it was told to."""
        return self.since is not None and self.waited_s(now) >= self._give_up_after_s

    def log_fields(self, now: float) -> dict[str, object]:
        """For a line about it. ``why`` is there where a learner refused; else sockets know it."""
        next_s = round(max(0.0, self.hello_at - now), 1)
        why = {"why": f"the learner refused: {self._refusal}"} if self._refusal else {}
        return {"waited": self.describe(now), "attempt": self.attempts, "next_attempt_s": next_s, **why}

    def describe(self, now: float) -> str:
        """For people: no learner for 10 min."""
        seconds = self.waited_s(now)
        spelt = f"{seconds / 60:.0f} min" if seconds < 7200.0 else f"{seconds / 3600:.0f} h"
        return f"no learner for {f'{seconds:.0f} s' if seconds < 60.0 else spelt}"
