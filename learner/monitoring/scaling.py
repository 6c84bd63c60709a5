"""What more actors would add to learning. Pure: a model, and the books that it is read from.

Learning takes E(B) = E_min (1 + B / S) samples where each policy is sampled B times and S is the noise scale
(McCandlish et al. 2018, "An Empirical Model of Large-Batch Training", equation 2.11), so it takes E(B) / rate seconds.
Environment steps measure all three. How n actors compare with the N that are here:

* B(n). An actor collects its share of the fleet, down to LEAST_ROWS or what its settings need
  (``actor/algorithms/portion.py``). So B stays what it is until each has come down to that, and then grows with n. What
  settings need is in a table that the learner does not read. So from MANY_ENOUGH actors on all are taken to be there.
* rate(n) is n / N times the present one, until the math thread has no time left.

What the model leaves out: that late messages count for less or are refused, that a fleet is of slow and fast actors,
and that S grows while a policy learns. So it says what more actors would add now.
"""

from __future__ import annotations

from dataclasses import dataclass

from learner.state import LearnerState

LEAST_ROWS = 64  # of a rollout: as the actor has it, which no message tells
MANY_ENOUGH = 8  # actors, from which on what each collects is taken for its least: that may be more than LEAST_ROWS
AT_LEAST = 1.5  # times as many: portions are rounded, and lag counts as rows; below it an actor has come down to them
WORTH = 0.5  # of what an actor adds in proportion, that the last useful one adds: where B(n) = S
MANY = 1_000_000_000  # actors: more are not told apart, where the math thread's share rounds to nothing


@dataclass(frozen=True, slots=True)
class Fleet:
    """actors: N >= 1. math_share: of its time that the math thread works, 0 to 1. batch_steps: B(N) > 0.

    noise_steps: S >= 0.
    """

    actors: int
    math_share: float
    batch_steps: float
    noise_steps: float

    def speed(self, actors: int) -> float:
        """Of learning with n >= 1 actors, in any unit."""
        if not self.noise_steps:
            return self._rate(actors) / self._batch(actors)
        return self._rate(actors) / (1.0 + self._batch(actors) / self.noise_steps)

    def gain(self, more: int) -> float:
        """By how much so many more would speed learning up: 0.1 is a tenth."""
        return self.speed(self.actors + more) / self.speed(self.actors) - 1.0

    @property
    def useful(self) -> int:
        """The largest fleet whose last actor adds WORTH of what it adds in proportion, and one at least.

        Where B(n) grows with n, speed(n) / speed(n - 1) - 1 is 1 / (1 + B(n) / S) of 1 / (n - 1): half where B(n) = S.
        Where it does not, each adds all.
        """
        each = self.batch_steps / self.actors
        by_noise = self.noise_steps / each if self._least else max(self.batch_steps, self.noise_steps) / LEAST_ROWS
        return int(max(1.0, min(by_noise, self._served, MANY)))

    @property
    def _least(self) -> bool:
        """Whether each has come down to its least."""
        return self.actors >= MANY_ENOUGH or self.batch_steps < AT_LEAST * LEAST_ROWS * self.actors

    @property
    def _served(self) -> float:
        """Actors that the math thread has time for."""
        return self.actors / self.math_share if self.math_share > 0.0 else float(MANY)

    def _rate(self, actors: int) -> float:
        return min(float(actors), max(self._served, 1.0))

    def _batch(self, actors: int) -> float:
        if self._least:
            return self.batch_steps * actors / self.actors
        return max(self.batch_steps, float(actors * LEAST_ROWS))


@dataclass(frozen=True, slots=True)
class Scaling:
    """What is said of a run. told: whether the noise scale is known; if not, it is the least that is likely."""

    fleet: Fleet
    told: bool

    @property
    def noise_scale_env_steps(self) -> float | None:
        """None where only a bound is known."""
        return self.fleet.noise_steps if self.told else None

    @property
    def useful_actors(self) -> int | None:
        """None where only a bound is known."""
        return self.fleet.useful if self.told else None


def scaling(state: LearnerState) -> Scaling | None:
    """As far as the run's books tell; None where the noise scale is not known, or nobody trains."""
    progress, actors = state.progress, state.sessions.training
    noise, share, batch = progress.noise, progress.pace.share, progress.batch_steps.value
    if noise is None or share is None or batch <= 0.0 or not actors:
        return None
    return Scaling(Fleet(actors, share, batch, noise.messages * progress.message_steps.value), noise.told)
