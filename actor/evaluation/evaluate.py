"""Scores a run that is on disk, or a live one whenever it has new weights. Knows the worker's channel; no sockets.

Episodes are played greedily, or with actions drawn as in training. The first one of each environment begins the same
each time; where the later ones begin follows from what was played before them. Of as many episodes as environments,
versions are compared on the same starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from actor.algorithms.curriculum import last
from actor.algorithms.own import declared
from actor.config import ActorSettings, read_settings
from actor.environments.contract import ContractViolation
from actor.environments.registry import make_vector_envs
from actor.evaluation import checkpoints
from actor.evaluation.play import Player, Score, play, quotas, summary
from actor.events import EvaluationDone, Event, Weights
from actor.handoff import WorkerChannel, WorkerFactory
from protocol.codecs.registry import Floats
from protocol.errors import UserError
from protocol.layout import Layout
from protocol.messages import Welcome
from protocol.moments import Moments

DRAWS = 3  # stands beside the seed, which simulators take by itself


class PolicyScorer:
    """So many episodes of the same environments, for every θ of one run. Raises UserError as a worker does.

    max_steps: where an episode is cut, and counts with the return it has. stochastic: actions are drawn, as in
    training, and are the best otherwise.
    """

    def __init__(
        self,
        table: bytes,
        layout: Layout,
        episodes: int,
        seed: int,
        max_steps: int,
        allowed_modules: frozenset[str],
        *,
        stochastic: bool = False,
    ) -> None:
        settings = with_few_envs(last(read_settings(table, declared(allowed_modules))), episodes)
        if stochastic and not settings.traits.stochastic:
            raise UserError(f"--stochastic: actor.algorithm = {settings.algorithm!r} has no distribution to draw from")
        self._stochastic, self._generator = stochastic, np.random.default_rng()
        self._env, self._seed, self._max_steps = settings.env, seed, max_steps
        (self._envs,) = make_vector_envs(settings, allowed_modules, pools=False)
        try:
            self._quotas = quotas(episodes, self._envs.count)
            self._player = Player(settings, self._envs.spaces, layout, allowed_modules)
        except BaseException:
            self.close()
            raise

    def score(
        self,
        version: int,
        theta: Floats,
        moments: Moments | None,
        on_step: Callable[[int], None] = lambda _: None,
    ) -> Score:
        """Plays all episodes with this θ. on_step: as in ``play``."""
        self._player.load(theta, moments)
        self._player.reset_memory(self._envs.count)
        self._generator = np.random.default_rng([self._seed, DRAWS])
        act = self._drawn if self._stochastic else self._player.act
        played = play(self._envs, act, self._quotas, self._seed, self._max_steps, on_step)
        return summary(self._env, version, played.episodes, self._seed, played.cut, stochastic=self._stochastic)

    def _drawn(
        self, observations: NDArray[Any], starts: NDArray[np.bool_], masks: NDArray[np.bool_] | None = None
    ) -> NDArray[Any]:
        return self._player.draw(self._player.outputs(observations, starts), self._generator, masks)

    def close(self) -> None:
        """Ends the simulators."""
        self._envs.close()


def with_few_envs(settings: ActorSettings, environments: int) -> ActorSettings:
    """The same simulators in one group, and no more of them than this."""
    return msgspec.structs.replace(settings, envs=min(settings.envs, environments), groups=1)


def evaluate(
    run_dir: Path,
    episodes: int,
    seed: int,
    max_steps: int,
    allow_modules: Iterable[str],
    *,
    best: bool = False,
    stochastic: bool = False,
) -> Score:
    """Plays ``episodes`` >= 1 episodes with the newest good checkpoint, or the best one.

    stochastic: as of PolicyScorer. Raises UserError, also for what breaks Gymnasium's contract.
    """
    manifest = checkpoints.read_manifest(run_dir)
    find = checkpoints.best if best else checkpoints.newest
    learnt = find(run_dir / "checkpoints")
    allowed = frozenset(allow_modules)
    table, layout = manifest.actor_table, manifest.layout
    scorer = PolicyScorer(table, layout, episodes, seed, max_steps, allowed, stochastic=stochastic)
    try:
        return scorer.score(learnt.version, learnt.theta, learnt.moments)
    except ContractViolation as error:
        raise UserError(str(error)) from error
    finally:
        scorer.close()


class Evaluator:
    """What a live learner's evaluating actor does in the place of training. once: with one set of weights only.

    report: gets each score. post: tells the link, which tells the learner.
    """

    def __init__(
        self,
        scorer: PolicyScorer,
        post: Callable[[Event], None],
        report: Callable[[Score], None],
        once: bool,
    ) -> None:
        self._scorer, self._post, self._report, self._once = scorer, post, report, once

    def run(self, channel: WorkerChannel, generation: int) -> None:
        """Until the channel interrupts, or once."""
        weights: Weights | None = None
        while weights is None or not self._once:
            weights = channel.newer_weights(weights, generation)
            self._play(weights, channel, generation)

    def _play(self, weights: Weights, channel: WorkerChannel, generation: int) -> None:
        def on_step(steps: int) -> None:
            channel.count_steps(steps)
            channel.check(generation)

        score = self._scorer.score(weights.version, weights.theta, weights.moments, on_step)
        done = EvaluationDone(
            version=score.version,
            episodes=score.episodes,
            mean=score.mean,
            std=score.std,
            ci95=score.ci95,
            seed=score.seed,
            epoch=weights.epoch,
        )
        self._post(done)
        self._report(score)

    def close(self) -> None:
        """Ends the simulators."""
        self._scorer.close()


class ScoreTally:
    """The scores of one life of an evaluator. best: by mean, ties to the earlier, as the learner has it."""

    def __init__(self) -> None:
        self.evaluations = 0
        self.best: Score | None = None

    def __str__(self) -> str:
        return f"best of {self.evaluations} evaluations: {self.best or 'none'}"

    def add(self, score: Score) -> None:
        """One more."""
        self.evaluations += 1
        if self.best is None or score.mean > self.best.mean:
            self.best = score


def follow(
    serve: Callable[[WorkerFactory], int],
    episodes: int,
    seed: int,
    max_steps: int,
    allow_modules: Iterable[str],
    once: bool,
    report: Callable[[Score], None],
    *,
    stochastic: bool = False,
) -> tuple[int, ScoreTally]:
    """Evaluates a live learner until it ends the run. Returns the exit code and what was seen. Raises UserError.

    serve: runs the link to the learner with the worker that the factory makes, and returns the exit code.
    """
    tally, allowed = ScoreTally(), frozenset(allow_modules)

    def add_and_report(score: Score) -> None:
        tally.add(score)
        report(score)

    def make_evaluator(welcome: Welcome, post: Callable[[Event], None]) -> Evaluator:
        table, layout = welcome.table, welcome.layout
        scorer = PolicyScorer(table, layout, episodes, seed, max_steps, allowed, stochastic=stochastic)
        return Evaluator(scorer, post, add_and_report, once)

    return serve(make_evaluator), tally
