"""The simulators of one actor, as many as its share of the run asks for, and rollouts from them. Knows no wire.

A fleet grows and shrinks while it trains. So an actor's environments are made anew between two rollouts, whenever
another portion (``algorithms/portion.py``) fits its share better.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from msgspec.structs import replace

from actor.algorithms.normalization import alike, normalization
from actor.algorithms.novelty import Novelty
from actor.algorithms.portion import Portion, differs, first, portion, whole
from actor.algorithms.recent_rollouts import Limits, RecentRollouts
from actor.algorithms.rollout import ActionSampler, Collector, Rollout
from actor.config import ActorSettings
from actor.environments.metrics import MetricBook
from actor.environments.registry import make_vector_envs
from actor.monitoring import log
from actor.networks.policy import Policy
from actor.spaces import Spaces, difference, resolved
from protocol.errors import UserError
from protocol.moments import Moments
from protocol.setting_names import OF_SIMULATORS

REPLACED = ("raised", "hung", "died", "wrong_shape")  # kinds of failure that ended a simulator


class Simulators:
    """settings: the experiment's. sized: the same, with the present portion's B and T. adds: as of ``portion``.

    share: as in a welcome. Where one is told the first rollout is short, since it may be another by the time that the
    fleet is whole.

    Raises what ``make_vector_envs`` raises.
    """

    def __init__(
        self, settings: ActorSettings, allowed_modules: frozenset[str], share: float, seed: int, *, adds: bool = True
    ) -> None:
        self._settings, self._allowed_modules, self._seed, self._adds = settings, allowed_modules, seed, adds
        self.metrics = MetricBook()  # what the environments measure of themselves
        self._unheeded = first if share else whole
        self.portion = self._unheeded(settings)
        self.sized = with_portion(settings, self.portion)
        self._groups = make_vector_envs(self.sized, allowed_modules, metrics=self.metrics)
        self._settings = resolved(settings, self.spaces)
        self.sized = with_portion(self._settings, self.portion)
        self._resized = 0  # so often
        self._share: float | None = None  # that was heeded; None before the first rollout is collected
        self._began = False
        self._failures: Counter[str] = Counter()  # of simulators that are not in use any more
        self._first_failures: dict[str, str] = {}  # likewise
        self._moments: Moments | None = None
        self._recent = RecentRollouts()
        self._novelty: Novelty | None = None
        self._told_masks: tuple[str, str] | None = None  # of which environment, and where it tells them
        self._weigh_novelty()
        self._policy: Policy
        self._sampler: ActionSampler
        self.collector: Collector

    @property
    def spaces(self) -> Spaces:
        """What the environment shows and takes."""
        return self._groups[0].spaces

    def begin(self, policy: Policy, sampler: ActionSampler) -> None:
        """Who acts from now on: the environments are reset."""
        self._policy, self._sampler = policy, sampler
        seed = self._seed
        if self._resized:  # who begins again with the same seeds shows the same episodes
            seed = int(np.random.SeedSequence([seed, self._resized]).generate_state(1)[0])
        self.collector = Collector(self._groups, policy, sampler, self.sized, seed, self._novelty)
        self._recent.clear()
        told = self._settings.env, self._groups[0].masked_by
        if told != self._told_masks and (self._told_masks or told[1] != "none"):
            self._told_masks = told
            log.write({"event": "actions_masked", "env": told[0], "by": told[1]})
        if self._moments is not None:
            self.normalize(self._moments)

    def _weigh_novelty(self) -> None:
        """What was seen stays seen."""
        weight = self._settings.novelty_weight
        if self._novelty is not None:
            self._novelty.weight = weight
        elif weight:
            self._novelty = Novelty(weight, self.spaces)

    def normalize(self, moments: Moments) -> None:
        """By these statistics, where settings ask for it."""
        self._moments, before = moments, (self.collector.normalizer, self.collector.return_scale)
        found = normalization(self._settings, self.spaces, moments)
        self.collector.normalizer, self.collector.return_scale = found
        if not alike(before, found):
            self.forget()

    def heed(self, share: float) -> bool:
        """Takes up the portion that goes with this share; whether that is another.

        A line says so. Unfinished episodes are let go where that means other environments.
        """
        if not self._began or (self._share is not None and not differs(share, self._share)):
            return False
        found, self._share = portion(self._settings, share, adds=self._adds), share
        if found == self.portion:
            return False
        log.write(
            {"event": "portion_changed", "share": share, "envs": found.envs, "rollout_steps": found.rollout_steps}
        )
        self._fit(found)
        return True

    def change(self, settings: ActorSettings, sampler: ActionSampler) -> None:
        """Other settings, of those that may change, from the next rollout on; nothing older is learnt from.

        Where they make other simulators, unfinished episodes are let go. Raises what ``make_vector_envs`` raises, and
        UserError for other spaces.
        """
        before, self._settings, self._sampler = self._settings, resolved(settings, self.spaces), sampler
        unheeded = self._unheeded(self._settings)
        found = unheeded if self._share is None else portion(self._settings, self._share, adds=self._adds)
        self._weigh_novelty()
        self._fit(found, anew=any(getattr(settings, name) != getattr(before, name) for name in OF_SIMULATORS))
        self.collector.change(self.sized, sampler, self._novelty)
        self.forget()

    def _fit(self, found: Portion, *, anew: bool = False) -> None:
        """Simulators for this portion; anew: others, whether or not there are as many."""
        anew = anew or found.envs != self.portion.envs
        self.portion, self.sized = found, with_portion(self._settings, found)
        if not anew:
            self.collector.set_length(found.rollout_steps)
            return
        self._failures, self._first_failures = self.failures, self.first_failures
        spaces = self.spaces
        self.close()
        self._resized += 1
        self._groups = make_vector_envs(self._within_budget(), self._allowed_modules, metrics=self.metrics)
        if self.spaces != spaces:
            said = f"is another: {difference(spaces, self.spaces)}"
            raise UserError(f"{self._settings.env}, made again for this stage of actor.curriculum, {said}")
        self.begin(self._policy, self._sampler)

    def _within_budget(self) -> ActorSettings:
        """Simulators that were replaced count for all that come after them."""
        replaced = sum(count for kind, count in self._failures.items() if kind in REPLACED)
        return replace(self.sized, simulator_failures=max(0, self.sized.simulator_failures - replaced))

    def collect(self) -> Rollout:
        """The next T steps of every environment in use."""
        self._began = True
        return self.collector.collect()

    def forget(self) -> None:
        """Nothing is learnt again from rollouts that were collected before."""
        self._recent.clear()

    def recent(self, rollout: Rollout, epoch: int, env_steps: int) -> Rollout:
        """What is learnt from: the rollout that was collected last, or with it those before it that still teach.

        epoch, env_steps: of the learner's life and of the run, at the weights that collected it.
        """
        portion = self.portion
        if portion.most_rollouts == 1:
            self._recent.clear()
            return rollout
        limits = Limits(portion.least_rollouts, portion.most_rollouts, portion.most_age)
        return self._recent.join(rollout, epoch, env_steps, limits)

    @property
    def failures(self) -> Counter[str]:
        """By kind, of all simulators so far."""
        return sum((Counter(group.failures) for group in self._groups), self._failures)

    @property
    def first_failures(self) -> dict[str, str]:
        """What the first of each kind was."""
        found = {kind: detail for group in reversed(self._groups) for kind, detail in group.first_failures.items()}
        return found | self._first_failures

    def close(self) -> None:
        """Ends the simulators."""
        for group in self._groups:
            group.close()
        self._groups = []


def with_portion(settings: ActorSettings, portion: Portion) -> ActorSettings:
    """The settings with these sizes; in groups where they divide the environments."""
    return replace(
        settings,
        envs=portion.envs,
        groups=settings.groups if portion.envs % settings.groups == 0 else 1,
        rollout_steps=portion.rollout_steps,
    )
