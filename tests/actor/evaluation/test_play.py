"""The deterministic player over every kind of network, method and space; which episodes count, and their statistics."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from hypothesis import given
from hypothesis import strategies as st

from actor.algorithms.distributions import distribution
from actor.config import ActorSettings
from actor.environments.registry import make_vector_envs
from actor.environments.vector import Step, VectorEnv
from actor.evaluation.play import Player, play, quotas, summary
from actor.networks.build import build_policy
from actor.spaces import Actions, Spaces
from protocol.errors import UserError
from protocol.moments import Moments
from tests.actor.counter import counters

ENOUGH = 10_000  # steps that no episode here takes, but where one never ends
DISCRETE = Actions("discrete", (3,), (0.0,), (1.0,))
SEVERAL = Actions("multi_discrete", (2, 3), (0.0, 0.0), (1.0, 1.0), shape=(2,))
BOX = Actions("box", (1, 1), (0.0,) * 2, (1.0,) * 2, (-100.0,) * 2, (100.0,) * 2, (2,), "float32")
STARTS, LATER = np.ones(4, np.bool_), np.zeros(4, np.bool_)


def player(
    actions: Actions, shape: tuple[int, ...] = (5,), moments: Moments | None = None, **changes: object
) -> tuple[Player, ActorSettings, Spaces, np.ndarray]:
    """Loaded with weights that have an opinion, and what an oracle needs to build the same."""
    settings = msgspec.structs.replace(ActorSettings(), hidden=(8,), memory_size=6, **changes)
    spaces = Spaces(shape, "uint8" if len(shape) == 3 else "float32", actions)
    _, flat = build_policy(settings, spaces, seed=3)
    theta = flat.vector() + np.linspace(-0.5, 0.5, flat.layout().length, dtype=np.float32)
    made = Player(settings, spaces, flat.layout())
    made.load(theta, moments)
    made.reset_memory(4)
    return made, settings, spaces, theta


def observations(spaces: Spaces, number: int) -> np.ndarray:
    generator = np.random.default_rng(number)
    if spaces.observation_type == "uint8":
        return generator.integers(0, 256, (4, *spaces.observation_shape), np.uint8)
    return generator.standard_normal((4, *spaces.observation_shape), np.float32)


@pytest.mark.parametrize("memory", ["none", "lstm", "gru"])
@pytest.mark.parametrize("actions", [DISCRETE, SEVERAL, BOX], ids=lambda actions: actions.kind)
@pytest.mark.parametrize("shape", [(5,), (4, 36, 36)], ids=["vectors", "images"])
def test_the_best_action_of_every_network_and_space(shape: tuple[int, ...], actions: Actions, memory: str) -> None:
    network = "mlp" if len(shape) == 1 else "a3c"
    made, settings, spaces, theta = player(actions, shape, network=network, memory=memory, precision="fp32")
    oracle, flat = build_policy(settings, spaces, seed=0)
    flat.load(theta)
    oracle.weights_changed()
    state = np.zeros((4, oracle.state_size), np.float32)
    for number in range(3):
        seen = observations(spaces, number)
        outputs, _ = oracle.act(oracle.prepare(seen), state)
        np.testing.assert_array_equal(made.act(seen, LATER), distribution(actions).best(outputs))


@pytest.mark.parametrize("algorithm", ["n_step_q", "one_step_q", "one_step_sarsa"])
def test_a_value_method_takes_the_highest_value(algorithm: str) -> None:
    made, settings, spaces, theta = player(DISCRETE, algorithm=algorithm)
    oracle, flat = build_policy(settings, spaces, seed=0)
    flat.load(theta)
    seen = observations(spaces, 0)
    outputs, _ = oracle.act(seen, np.zeros((4, 0), np.float32))
    assert made.act(seen, STARTS)[:, 0].tolist() == outputs.argmax(1).tolist()


@pytest.mark.parametrize("memory", ["lstm", "gru"])
def test_a_memory_is_emptied_where_an_episode_starts_and_nowhere_else(memory: str) -> None:
    made, _, spaces, _ = player(BOX, memory=memory)
    first = made.act(observations(spaces, 0), STARTS)
    made.act(observations(spaces, 1), LATER)
    again = made.act(observations(spaces, 0), np.array([True, False, True, False]))
    np.testing.assert_allclose(again[[0, 2]], first[[0, 2]], atol=1e-6)
    assert (again[[1, 3]] != first[[1, 3]]).any(1).all()
    made.reset_memory(4)
    np.testing.assert_allclose(made.act(observations(spaces, 0), LATER), first, atol=1e-6)


def test_observations_are_seen_as_in_training() -> None:
    """Normalised with the run's statistics, then the hidden numbers are 0; the simulator's own array stays as it is."""
    moments = Moments(10, np.full(6, 2.0), np.full(6, 40.0))  # five numbers of observations, and the returns
    changes: dict[str, Any] = {
        "normalize_observations": True,
        "normalize_returns": True,
        "hidden_observations": (1,),
    }
    made, _, spaces, theta = player(BOX, moments=moments, **changes)
    plain, _, _, _ = player(BOX)
    plain.load(theta, None)
    raw = observations(spaces, 0)
    before, seen = raw.copy(), (raw - 2.0) / 2.0
    seen[:, 1] = 0.0
    np.testing.assert_allclose(made.act(raw, STARTS), plain.act(seen, STARTS), atol=1e-5)
    np.testing.assert_array_equal(raw, before)
    made.load(theta, None)  # without statistics, of another run, nothing of the old ones is left
    seen = raw.copy()
    seen[:, 1] = 0.0
    np.testing.assert_allclose(made.act(raw, STARTS), plain.act(seen, STARTS), atol=1e-6)


def test_another_network_is_refused() -> None:
    _, settings, spaces, theta = player(DISCRETE)
    _, flat = build_policy(msgspec.structs.replace(settings, hidden=(9,)), spaces, seed=0)
    with pytest.raises(UserError, match="network is not the one"):
        Player(settings, spaces, flat.layout())
    made, *_ = player(DISCRETE)
    with pytest.raises(UserError, match=f"{len(theta)} parameters, and these are 3"):
        made.load(np.zeros(3, np.float32), None)


class Clockwork(VectorEnv):
    """Environment ``row`` finishes an episode of return ``row`` every ``row + 1`` steps; none is ever too long."""

    def __init__(self, count: int) -> None:
        self.count, self.now = count, 0

    def reset(self, seed: int) -> np.ndarray:
        return np.zeros((self.count, 1), np.float32)

    def step(self, actions: np.ndarray) -> Step:
        self.now += 1
        done = np.array([self.now % (row + 1) == 0 for row in range(self.count)])
        zeros = np.zeros(self.count, np.float32)
        episodes = [(float(row), row + 1) for row in np.flatnonzero(done).tolist()]
        halves = np.arange(self.count) % 2 == 0  # some terminate, some are truncated
        seen = np.zeros((self.count, 1), np.float32)
        valid = np.ones(self.count, np.bool_)
        return Step(seen, zeros, done & halves, done & ~halves, valid, done, None, episodes, np.flatnonzero(done))

    def unfinished(self) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(self.count), np.zeros(self.count, np.int64)


def still(seen: np.ndarray, starts: np.ndarray, masks: np.ndarray | None) -> np.ndarray:
    return np.zeros((len(seen), 1), np.int64)


@given(st.integers(1, 300), st.integers(1, 64))
def test_quotas_are_even_and_whole(episodes: int, environments: int) -> None:
    made = quotas(episodes, environments)
    assert made.sum() == episodes
    assert made.max() - made.min() <= 1


def test_short_episodes_are_not_counted_more_often() -> None:
    played = play(Clockwork(4), still, quotas(10, 4), 0, ENOUGH)
    assert played.cut == 0
    assert sorted(score for score, _ in played.episodes) == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3]


def test_starts_are_told_and_steps_are_heard_of() -> None:
    told: list[list[bool]] = []
    heard: list[int] = []

    def act(seen: np.ndarray, starts: np.ndarray, masks: np.ndarray | None) -> np.ndarray:
        told.append(starts.tolist())
        return still(seen, starts, masks)

    play(Clockwork(2), act, np.array([2, 1]), 0, ENOUGH, heard.append)
    assert told == [[True, True], [True, False]]
    assert heard == [2, 2]


def test_a_game_is_repeatable_and_each_episode_counts_once() -> None:
    def push(seen: np.ndarray, starts: np.ndarray, masks: np.ndarray | None) -> np.ndarray:
        return (seen[:, 2:3] > 0).astype(np.int64)

    runs = []
    for _ in range(2):
        (simulators,) = make_vector_envs(ActorSettings(env="CartPole-v1", envs=3), frozenset())
        runs.append(play(simulators, push, quotas(7, 3), 5, ENOUGH).episodes)
        simulators.close()
    assert runs[0] == runs[1]
    assert len(runs[0]) == 7
    assert all(score == length for score, length in runs[0])  # CartPole pays one for each step


def one(seen: np.ndarray, starts: np.ndarray, masks: np.ndarray | None) -> np.ndarray:
    return np.ones((len(seen), 1), np.int64)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_an_episode_that_never_ends_is_cut_and_counts_with_the_return_it_has(mode: AutoresetMode) -> None:
    """The second environment never ends. It is begun anew for its second episode, once the first has played its own."""
    heard: list[int] = []
    simulators = counters(mode, 3, 10**9)
    played = play(simulators, one, np.array([2, 2]), 0, 5, heard.append)
    assert sorted(played.episodes) == [(3.0, 3), (3.0, 3), (5.0, 5), (5.0, 5)]
    assert played.cut == 2
    first = 6 if mode is AutoresetMode.SAME_STEP else 7  # until the first environment has played both of its episodes
    assert len(heard) == first + 5


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_what_an_environment_does_after_a_cut_counts_for_nothing(mode: AutoresetMode) -> None:
    """The second environment ends two steps after its cut, while the first still plays."""
    played = play(counters(mode, 3, 7), one, np.array([3, 2]), 0, 5)
    assert sorted(played.episodes) == [(3.0, 3)] * 3 + [(5.0, 5)] * 2
    assert played.cut == 2


def test_an_episode_that_ends_at_the_limit_is_whole() -> None:
    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        assert play(counters(mode, 3, 2), one, np.array([2, 1]), 0, 3).cut == 0
        assert play(counters(mode, 3, 2), one, np.array([2, 1]), 0, 2) == ([(2.0, 2)] * 3, 2)


def test_each_beginning_after_a_cut_has_seeds_of_its_own() -> None:
    seeds: list[int] = []

    class Told(VectorEnv):
        def reset(self, seed: int) -> np.ndarray:
            seeds.append(seed)
            return super().reset(seed)

    plain = counters(AutoresetMode.NEXT_STEP, 10**9, 10**9)
    play(Told(plain.engine, plain.spaces, next_step_autoreset=True), one, np.array([3, 2]), 4, 2)
    assert seeds == [4, 6, 8]


def test_a_score_says_how_many_episodes_were_cut() -> None:
    assert "cut" not in str(summary("E", 9, [(1.0, 10)], 5))
    score = summary("E", 9, [(1.0, 10), (2.0, 10)], 5, cut=1)
    assert score.cut == 1
    assert str(score).endswith("version 9  1 cut at the step limit")


def test_statistics_of_four_episodes() -> None:
    score = summary("E", 9, [(1.0, 10), (2.0, 10), (3.0, 20), (6.0, 20)], 5)
    assert (score.mean, score.min, score.max, score.length_mean, score.seed) == (3.0, 1.0, 6.0, 15.0, 5)
    assert score.std == pytest.approx(math.sqrt(14 / 3))
    assert score.ci95 == pytest.approx(3.182 * score.std / 2)  # Student's t with three degrees of freedom
    assert "4 episodes  mean 3.00 ± 3.44 (95 %)" in str(score)


def test_one_episode_says_nothing_about_the_spread() -> None:
    score = summary("E", 0, [(5.0, 1)], 0)
    assert (score.std, score.ci95) == (0.0, math.inf)


def test_many_episodes_come_near_the_normal_quantile() -> None:
    score = summary("E", 0, [(float(n % 2), 1) for n in range(1000)], 0)
    assert score.ci95 == pytest.approx(1.96 * score.std / math.sqrt(1000), rel=0.01)
