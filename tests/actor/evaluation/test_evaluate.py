"""Scoring a run on disk, and a live one over a channel; the policies, seeds and reports. No sockets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from actor.evaluation.evaluate import Evaluator, PolicyScorer, ScoreTally, evaluate
from actor.evaluation.play import Score, summary
from actor.events import EvaluationDone, Event, Weights
from actor.handoff import Interrupted, WorkerChannel
from actor.initial import initial
from protocol import manifest as manifests
from protocol.errors import UserError
from protocol.manifest import digest_of
from tests.actor.evaluation.rundirs import TABLE, checkpoint, moments_of, run_directory, settings_of
from tests.actor.test_handoff import welcome

ENOUGH = 10_000  # steps that no episode of these takes
POLICIES: dict[str, dict[str, object]] = {
    "actor_critic": {},
    "two_groups": {"groups": 2},
    "values": {"algorithm": "n_step_q"},
    "memory": {"memory": "lstm", "memory_size": 8, "hidden_observations": [1, 3]},
    "box": {"env": "Pendulum-v1", "memory": "gru", "memory_size": 8},
}


@pytest.mark.parametrize("changes", POLICIES.values(), ids=POLICIES)
def test_a_run_is_scored_and_scored_alike_again(tmp_path: Path, changes: dict[str, object]) -> None:
    theta = run_directory(tmp_path, **changes)
    checkpoint(tmp_path / "checkpoints", 12, {"theta": theta})
    score = evaluate(tmp_path, 6, 3, ENOUGH, ())
    assert (score.env, score.version, score.episodes, score.seed) == (changes.get("env", "CartPole-v1"), 12, 6, 3)
    assert score.min <= score.mean <= score.max
    assert score == evaluate(tmp_path, 6, 3, ENOUGH, ())
    assert score != evaluate(tmp_path, 6, 4, ENOUGH, ())
    assert score.cut == 0


def test_the_best_is_scored_where_it_is_asked_for(tmp_path: Path) -> None:
    theta = run_directory(tmp_path)
    checkpoint(tmp_path / "checkpoints", 12, {"theta": theta})
    checkpoint(tmp_path / "checkpoints", 7, {"theta": theta}, name="best.safetensors")
    assert evaluate(tmp_path, 1, 0, ENOUGH, ()).version == 12
    assert evaluate(tmp_path, 1, 0, ENOUGH, (), best=True).version == 7


def test_observations_are_normalised_as_in_training(tmp_path: Path) -> None:
    theta = run_directory(tmp_path, normalize_observations=True)
    scores = []
    for version, mean in ((1, 0.0), (2, 100.0)):
        checkpoint(tmp_path / "checkpoints", version, {"theta": theta, **moments_of(4, mean)})
        scores.append(evaluate(tmp_path, 8, 0, ENOUGH, ()).mean)
    assert scores[0] != scores[1]  # the second sees the clip on every axis and always pushes one way
    assert scores[1] < 12


def test_another_network_is_refused(tmp_path: Path) -> None:
    theta = run_directory(tmp_path)
    manifest = manifests.decode((tmp_path / "manifest.json").read_bytes())
    table = msgspec.msgpack.encode({**TABLE, "hidden": [9]})
    changed = msgspec.structs.replace(manifest, actor_table=table, actor_digest=digest_of(table))
    (tmp_path / "manifest.json").write_bytes(manifests.encode(changed))
    checkpoint(tmp_path / "checkpoints", 1, {"theta": theta})
    with pytest.raises(UserError, match="network"):
        evaluate(tmp_path, 1, 0, ENOUGH, ())


CLIPPED = {"wrapper": "gymnasium.wrappers:ClipReward", "options": {"min_reward": 0.0, "max_reward": 0.25}}


@pytest.mark.parametrize(
    "changes", [{"wrappers": [CLIPPED]}, {"curriculum": [{"env_steps": 9, "set": {"wrappers": [CLIPPED]}}]}]
)
def test_returns_are_what_the_wrapped_environment_of_the_last_stage_pays(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    theta = run_directory(tmp_path, **changes)
    checkpoint(tmp_path / "checkpoints", 1, {"theta": theta})
    score = evaluate(tmp_path, 2, 0, ENOUGH, ())
    assert score.mean == 0.25 * score.length_mean


def test_episodes_past_the_step_limit_are_cut_and_counted(tmp_path: Path) -> None:
    theta = run_directory(tmp_path)
    checkpoint(tmp_path / "checkpoints", 1, {"theta": theta})
    score = evaluate(tmp_path, 6, 0, 2, ())  # no pole falls within two steps
    assert (score.cut, score.episodes, score.mean, score.length_mean) == (6, 6, 2.0, 2.0)


class Bench:
    """An evaluator whose channel has no link behind it. Each score is answered by the next of ``given``, or the end."""

    def __init__(self, *given: Weights, once: bool = False) -> None:
        self.posted: list[Event] = []
        self.scores: list[Score] = []
        self.channel = WorkerChannel(lambda work: None)
        self.channel.configure(welcome())
        self.given = list(given)
        self.evaluator = Evaluator(examination(), self.posted.append, self.note, once)
        self.channel.adopt(self.given.pop(0))

    def note(self, score: Score) -> None:
        self.scores.append(score)
        if self.given:
            self.channel.adopt(self.given.pop(0))
        else:
            self.channel.close()

    def run(self) -> None:
        try:
            self.evaluator.run(self.channel, 1)
        finally:
            self.evaluator.close()


def examination(episodes: int = 3, **settings: object) -> PolicyScorer:
    table = msgspec.msgpack.encode({**TABLE, **settings})
    return PolicyScorer(table, initial(settings_of(), 1, ()).layout, episodes, 5, ENOUGH, frozenset())


def weights(version: int, epoch: int = 1) -> Weights:
    theta = initial(settings_of(), 1, ()).theta
    return Weights(epoch, version, theta + np.float32(0.01 * version), None)


def test_a_run_in_envpool_is_scored_in_gymnasiums_environment() -> None:
    scores = []
    for vectorization in ("auto", "envpool"):
        scorer = examination(vectorization=vectorization)
        scores.append(scorer.score(1, weights(1).theta, None))
        scorer.close()
    assert scores[0] == scores[1]


def test_actions_may_be_drawn_and_are_the_same_each_time() -> None:
    """Of weights as they begin, whose best action is hardly likelier than the other."""
    table, layout = msgspec.msgpack.encode(TABLE), initial(settings_of(), 1, ()).layout
    scores = []
    for stochastic in (False, True):
        scorer = PolicyScorer(table, layout, 3, 5, ENOUGH, frozenset(), stochastic=stochastic)
        scores.append([scorer.score(1, weights(1).theta, None) for _ in range(2)])
        scorer.close()
    (greedy, again), (drawn, repeated) = scores
    assert greedy == again
    assert drawn == repeated
    assert greedy.mean != drawn.mean
    assert (greedy.stochastic, drawn.stochastic) == (False, True)
    assert "actions drawn" in str(drawn)
    assert "drawn" not in str(greedy)
    values = msgspec.msgpack.encode({"env": "CartPole-v1", "algorithm": "n_step_q"})
    with pytest.raises(UserError, match=r"--stochastic: actor\.algorithm = 'n_step_q' has no distribution"):
        PolicyScorer(values, layout, 3, 5, ENOUGH, frozenset(), stochastic=True)


def test_a_live_run_is_scored_with_each_new_set_of_weights_until_it_ends() -> None:
    bench = Bench(weights(1), weights(5), weights(2, epoch=2))
    with pytest.raises(Interrupted):
        bench.run()
    assert [score.version for score in bench.scores] == [1, 5, 2]
    assert bench.posted == [
        EvaluationDone(s.version, 3, s.mean, s.std, s.ci95, 5, epoch)
        for s, epoch in zip(bench.scores, (1, 1, 2), strict=True)
    ]
    assert bench.channel.stats.env_steps > sum(3 * score.length_mean for score in bench.scores)


def test_one_evaluation_is_enough_where_that_was_asked_for() -> None:
    bench = Bench(weights(1), weights(5), once=True)
    bench.run()
    assert [score.version for score in bench.scores] == [1]


def test_the_end_of_a_run_does_not_wait_for_the_end_of_a_game() -> None:
    bench = Bench(weights(1))
    bench.channel.close()
    with pytest.raises(Interrupted):
        bench.run()
    assert (bench.posted, bench.scores) == ([], [])


def test_the_first_of_the_best_is_remembered() -> None:
    tally = ScoreTally()
    assert str(tally) == "best of 0 evaluations: none"
    for version, mean in enumerate((1.0, 3.0, 3.0, 2.0)):
        tally.add(summary("E", version, [(mean, 1)], 0))
    assert tally.best is not None
    assert (tally.best.version, tally.evaluations) == (1, 4)
