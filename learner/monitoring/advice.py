"""What will keep a run from learning, in words, with the setting to look at. Pure: numbers in, words out.

Each is said once. Nothing is changed by it: the sentence names the numbers that it follows from, so that a reader can
disagree. What a run has is seen in its reports' last losses and in its episodes; what the actor's settings are is not
the learner's to read.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from learner.config import Experiment
from learner.progress import WINDOW, Progress
from protocol.moments import Moments

SAMPLE_STEPS = 2_000  # environment steps between two looks
LASTING = 20  # looks in a row that show the same, before it is said
FLAT_STEPS = 50_000  # before a return that has not moved is one that does not
FLAT = 0.02  # of the return: means that differ by less have not moved
LOST_NORM = 1_000.0  # of a gradient: what any usual clip leaves of it is no direction any more
LARGE_REWARD = 1_000.0  # a step
BADLY_FITTED = 1_000.0  # squared error of values, in the units that they are learnt in
CERTAIN, NARROW = 0.01, -2.0  # nats of entropy: of choices from a list, and of a Gaussian policy
WAITING_STEPS = 10_000  # in which an episode is to end
MOST_FLOOR = 0.2  # of the first rate: what is left at the end of annealing, and teaches little more


class Advice(NamedTuple):
    """kind: its name in events. setting: to look at first. text: one or two sentences."""

    kind: str
    setting: str
    text: str


class Look(NamedTuple):
    """A run at one moment. mean: return of the last 100 episodes; reward: its mean per step, as a magnitude."""

    env_steps: int
    mean: float
    reward: float
    entropy: float
    value_loss: float
    gradient_norm: float


class Adviser:
    """Looks at a run now and then. given: all that was said in this life, oldest first.

    begun: an earlier life began the run, and what its returns were is not known here.
    """

    def __init__(self, experiment: Experiment, *, begun: bool = False) -> None:
        self.given: list[Advice] = []
        self._experiment, self._begun = experiment, begun
        self._looks: deque[Look] = deque(maxlen=LASTING)
        self._least, self._most = math.inf, -math.inf  # of all means
        self._first: Look | None = None  # of this life
        self._due = 0

    def look(self, progress: Progress, moments: Moments | None) -> list[Advice]:
        """What is to be said now and was not said before. moments: of what actors normalise, if they do."""
        blind = [each for each in _unseen(progress, moments) if each.kind not in {said.kind for said in self.given}]
        self.given += blind
        if progress.env_steps < self._due or len(progress.scores) < WINDOW or progress.return_mean is None:
            return blind
        self._due = progress.env_steps + SAMPLE_STEPS
        mean, losses = progress.return_mean, progress.losses
        reward = sum(map(abs, progress.scores)) / max(1, sum(progress.lengths))
        self._looks.append(Look(progress.env_steps, mean, reward, losses.entropy, losses.value, losses.gradient_norm))
        self._least, self._most = min(self._least, mean), max(self._most, mean)
        self._first = self._first or self._looks[-1]
        if progress.reached(self._experiment.run.until_return):
            return blind
        said = {advice.kind for advice in self.given}
        found = [advice for advice in self._found() if advice.kind not in said]
        self.given += found
        return blind + found

    def _found(self) -> Iterator[Advice]:
        newest = self._looks[-1]
        yield from self._annealed(newest)
        yield from self._flat(newest)
        if self._lasts(lambda look: look.reward > LARGE_REWARD and _badly_fitted(look)):
            text = (
                f"Rewards are of {newest.reward:.2g} a step, and values miss their targets by {newest.value_loss:.2g} "
                "squared: a critic that begins at 0 does not get there. Normalise returns, or scale rewards."
            )
            yield Advice("rewards_large", "actor.normalize_returns", text)
        elif self._lasts(_badly_fitted):
            text = (
                f"Values miss their targets by {newest.value_loss:.2g} squared, for {LASTING} looks in a row: "
                "advantages are noise. Normalise returns, or scale rewards until returns are a few units."
            )
            yield Advice("values_not_fitted", "actor.normalize_returns", text)
        if self._lasts(lambda look: look.gradient_norm > LOST_NORM):
            text = (
                f"Gradients have a norm of {newest.gradient_norm:.2g}: what clipping leaves of them is the critic's "
                "error, and next to nothing of the policy's."
            )
            yield Advice("gradients_clipped_away", "actor.max_gradient_norm", text)
        # Exactly 0 has who has no policy to speak of: a value method, and an actor that tells no losses. Below 0 is a
        # Gaussian policy's, of which a little below is nothing to speak of either.
        certain = self._lasts(lambda look: 0.0 < look.entropy < CERTAIN or look.entropy < NARROW)
        if certain and newest.mean <= self._looks[0].mean:
            text = (
                f"The policy's entropy is {newest.entropy:.2g} nats and its return does not rise: it always does the "
                "same, and learns nothing of what else there is. More entropy keeps it trying."
            )
            yield Advice("entropy_gone", "actor.entropy_weight", text)

    def _annealed(self, newest: Look) -> Iterator[Advice]:
        run, settings = self._experiment.run, self._experiment.learner
        steps, floor, points = settings.anneal.told
        left = run.until_steps is None or run.until_steps > 1.1 * newest.env_steps
        if left and newest.env_steps > steps and floor <= MOST_FLOOR:
            end = "has no end" if run.until_steps is None else f"ends at {run.until_steps:,}"
            text = (
                f"Since step {steps:,} the learning rate is {floor:.0%} of its first, and "
                f"the run {end}: little more will be learnt."
            )
            yield Advice("rate_annealed", "learner.anneal_points" if points else "learner.anneal_steps", text)

    def _flat(self, newest: Look) -> Iterator[Advice]:
        assert self._first is not None
        seen_steps = newest.env_steps - self._first.env_steps
        lasting = seen_steps >= FLAT_STEPS and len(self._looks) == LASTING and not self._begun
        if lasting and self._most - self._least <= FLAT * max(abs(self._least), abs(self._most)):
            where = f"between {self._least:.4g} and {self._most:.4g}"
            stayed = f"at {self._most:.4g}" if self._least == self._most else where
            text = (
                f"In {seen_steps:,} steps the mean return of {WINDOW} episodes has stayed {stayed}: what the policy "
                "tries makes no difference. Look at the reward. Where it is rare, a reward for what is new helps to "
                "find it (actor.novelty_weight), or rewards on the way."
            )
            yield Advice("return_flat", "actor.novelty_weight", text)

    def _lasts(self, shows: Callable[[Look], bool]) -> bool:
        return len(self._looks) == LASTING and all(map(shows, self._looks))


def _badly_fitted(look: Look) -> bool:
    """By much, and by much of what returns are."""
    return look.value_loss > max(BADLY_FITTED, look.mean**2 / 10)


def _unseen(progress: Progress, moments: Moments | None) -> Iterator[Advice]:
    """What is missing altogether: ends of episodes, and numbers that change. With those of observations moments hold
    the returns', for which of them is which, and whether it is normalised at all, is the actors' to know.
    """
    if not progress.episodes and progress.env_steps >= WAITING_STEPS:
        text = (
            f"In {progress.env_steps:,} steps no episode has ended, so nothing is known of returns. Environments step "
            "side by side: each has done its part of these steps alone. Where episodes are long, give the run more."
        )
        yield Advice("no_episode_ended", "run.until_steps", text)
    if moments is not None and moments.count >= FLAT_STEPS and not moments.m2.any():
        text = (
            f"In {moments.count:,} steps nothing that is normalised was seen to change, neither a number of an "
            "observation nor a reward: the policy is blind."
        )
        yield Advice("observations_constant", "actor.env", text)
