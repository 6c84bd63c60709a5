"""What one actor of a fleet collects and learns from at once, by its share of the run. Pure. Knows numbers alone.

The settings say what an actor collects between two policies. If each of N actors did so, one policy would be sampled N
times as much, and the last of all gradients would be taken far from what collected the data. So together they collect
about what one does: each uses fewer of its environments and shorter rollouts, down to a least, and a gradient keeps
about its samples: where a method can correct for older policies they are drawn from the newest few rollouts
(``recent_rollouts.py``). One actor and two equal ones follow the settings, which shipped experiments are tuned for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from actor.config import ActorSettings

# Chosen in virtual time with 16 actors on seeds from 101 on (docs/learning.md, "A fleet's portions").
LEAST_ROWS = 64  # of a gradient: of fewer, what an update costs to compute and to send outweighs what it learns
FEWEST_ROWS = 16  # of a rollout whose gradients are drawn from several
AGE = 2.5  # whole rollouts: after so many of the fleet's samples one teaches no more, if a gradient has its samples
AT_ONCE = 3  # passes over several rollouts for each of them: more fit a policy to samples that are few
HORIZONS = 8 / 3  # of the advantages, that a rollout has samples for: one reward is in all advantages of a horizon
FAR_PART = 1 / 8  # of a whole rollout's samples, that a far horizon may ask for: else it would keep fleets whole
WIDTH = 2.0  # environments shrink by this much less than samples: one of them alone shows one situation at a time
POWER = 0.5  # of the share of a gradient that is left: its noise grows with the root of what is added up
NOISE = 3  # times as far in nats moves a fleet for what it learns: the noise of small gradients is in the way
OWN = 0.5  # of the way that an actor sees itself go, on samples that it has just learnt from
BAND = 1.4  # between two shares that are heeded, so that one that wavers changes nothing
LONE = 0.4  # from this share on an actor follows the settings whole, which are tuned for one or two


@dataclass(frozen=True, slots=True)
class Portion:
    """envs: B in use. rollout_steps: T. gradients: of each rollout, in all passes. length: of updates, 0 < length <= 1,
    as a factor.

    most_rollouts: that are learnt from together, where they are not older than most_age, environment steps of the run.
    least_rollouts: likewise, at whatever age, so that a gradient has its samples. minibatches: of a pass over so many.
    share: of the run that it was made for; 0 where it is all that the settings say. part: of what the settings collect
    between two policies, over what the fleet collects while this actor collects its portion; at most 1.
    """

    envs: int
    rollout_steps: int
    minibatches: int
    gradients: int
    length: float = 1.0
    share: float = 0.0
    part: float = 1.0
    least_rollouts: int = 1
    most_rollouts: int = 1
    most_age: float = 0.0

    def parts(self, rows: int) -> int:
        """Into how many gradients a pass over so many samples falls: two where a divergence takes a second one."""
        return max(min(2, self.minibatches), round(rows * self.minibatches / self._drawn))

    def fullness(self, rows: int) -> float:
        """Of updates from so many samples, what is left of the length: less until there are as many as are wanted."""
        return float(min(1.0, rows / self._drawn) ** POWER)

    @property
    def _drawn(self) -> int:
        """Samples that gradients are drawn from, at least."""
        return self.envs * self.rollout_steps * self.least_rollouts

    def divergence(self, by_others: float, last: float) -> float:
        """Nats that the fleet moves its policy by while it collects as much as the settings say, less what is noise.

        by_others, last: nats, on a rollout's samples, from the policy that collected it to the newest before the first
        own gradient, and to the one at the last. What an actor does within its own passes misleads it: on a few samples
        that were just learnt from a policy looks as if it had moved far, and most of the way is other actors'. So what
        counts is what the others did, of the way all but this actor's share; a divergence goes with the square of the
        way. An actor's own part counts where it is longer: else one that goes astray would be the last to see it.
        """
        others = math.sqrt(max(0.0, by_others))
        own = math.sqrt(max(last, by_others)) - others
        noise = NOISE if self.most_age else 1.0
        return max(others / (1.0 - self.share), OWN * own) ** 2 * self.part / noise


def whole(settings: ActorSettings) -> Portion:
    """All that the settings say."""
    gradients = settings.passes * settings.minibatches
    return Portion(settings.envs, settings.rollout_steps, settings.minibatches, gradients)


def first(settings: ActorSettings) -> Portion:
    """Before anybody told a share: as little as is ever collected at once."""
    steps = settings.rollout_steps if _keeps_length(settings) else -(-LEAST_ROWS // settings.envs)
    return _of(settings, settings.envs, min(settings.rollout_steps, steps))


def portion(settings: ActorSettings, share: float, *, adds: bool = True) -> Portion:
    """What goes with a share, 0 < share <= 1; 0, nobody told: all.

    adds: whether the learner adds updates, which may be shorter. Its own optimizer makes full steps of any gradient,
    so there a gradient keeps its samples.
    """
    if not 0.0 < share < LONE:
        return whole(settings)
    rows = settings.envs * settings.rollout_steps
    joined = adds and _corrects(settings)
    least = _fewest_rows(share) if joined else _least_rows(settings, adds=adds)  # of a rollout
    wanted = max(min(rows, least), rows * share)
    whole_length = _keeps_length(settings)
    enough = wanted / settings.rollout_steps  # environments, of rollouts that are not cut
    envs = _power_of_two(enough if whole_length else max(enough, settings.envs * WIDTH * share))
    envs = min(settings.envs, max(envs, _least_minibatches(settings)))  # of sequences each has one at least
    steps = settings.rollout_steps if whole_length else max(1, round(wanted / envs))
    return _of(settings, envs, min(settings.rollout_steps, steps), share, joined=joined)


def differs(share: float, held: float) -> bool:
    """Whether a share is so far from the one that was last heeded that another portion is worth its making."""
    return max(share, held) > BAND * min(share, held)


def _of(settings: ActorSettings, envs: int, steps: int, share: float = 0.0, *, joined: bool = False) -> Portion:
    """With as many gradients from as many samples as the settings have them, or shorter ones where not even one."""
    rows, all_rows = envs * steps, settings.envs * settings.rollout_steps
    most_gradients = settings.passes * settings.minibatches
    least_rollouts = max(1, min(round(min(all_rows, LEAST_ROWS) / rows), most_gradients)) if joined else 1
    drawn = rows * least_rollouts  # what gradients are drawn from, at least
    per_pass = settings.minibatches * drawn / all_rows
    minibatches = max(_least_minibatches(settings), round(per_pass))
    return Portion(
        envs,
        steps,
        minibatches,
        gradients=max(_least_minibatches(settings), math.ceil(settings.passes * minibatches / least_rollouts)),
        length=min(1.0, per_pass / minibatches) ** POWER,
        share=share,
        part=min(1.0, share * all_rows / rows) if share else 1.0,
        least_rollouts=least_rollouts,
        most_rollouts=max(least_rollouts, min(round(settings.passes / AT_ONCE), all_rows // rows)) if joined else 1,
        most_age=AGE * all_rows if joined else 0.0,
    )


def _corrects(settings: ActorSettings) -> bool:
    """Whether what older policies did can be learnt from: their ratio is corrected for, and the new one's clipped."""
    plain = settings.traits.learns_from_older and settings.targets == "gae" and settings.loss == "clipped"
    return plain and settings.memory == "none"


def _least_minibatches(settings: ActorSettings) -> int:
    """Of a pass. Where its first gradient is measured against its own policy, a divergence takes a second one."""
    alone = settings.passes == 1 or settings.targets == "vtrace"
    return min(2, settings.minibatches) if settings.kl_target and alone else 1


def _keeps_length(settings: ActorSettings) -> bool:
    """Whether shorter rollouts would be another method: returns that reach to their end, or a memory that does."""
    traits = settings.traits
    n_step = traits.whole_rollouts or (traits.stochastic and settings.targets == "n_step")
    return n_step or settings.memory != "none"


def _least_rows(settings: ActorSettings, *, adds: bool) -> int:
    """Samples of a rollout, at least: what the advantages' horizon needs, up to FAR_PART of all there are."""
    rows = settings.envs * settings.rollout_steps
    least = LEAST_ROWS if adds else max(LEAST_ROWS, -(-rows // settings.minibatches))
    if not settings.traits.has_values:
        return least
    discount = max(settings.discount, settings.final_discount or 0.0)
    ahead = 1.0 / max(1e-6, 1.0 - discount * settings.gae_lambda)  # steps that an advantage looks
    return max(least, min(math.ceil(HORIZONS * ahead), math.ceil(rows * FAR_PART)))


def _fewest_rows(share: float) -> int:
    """Samples of a rollout whose gradients are drawn from several, at least: LEAST_ROWS of one actor in sixteen, and
    fewer by the root in larger fleets, whose rollouts are older when they are learnt from.
    """
    return max(FEWEST_ROWS, min(LEAST_ROWS, round(LEAST_ROWS * math.sqrt(16.0 * share))))


def _power_of_two(count: float) -> int:
    """The nearest, 1 at least."""
    return int(2 ** max(0, round(math.log2(count))))
