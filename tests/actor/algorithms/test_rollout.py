"""Rollouts of scripted simulators: what each row holds, where one rollout ends and the next begins."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from actor.algorithms.distributions import distribution
from actor.algorithms.exploration import EpsilonGreedy
from actor.algorithms.normalization import NORMAL_CLIP, Normalizer
from actor.algorithms.returns import gae
from actor.algorithms.rollout import ActionSampler, Collector, Rollout
from actor.config import ActorSettings
from actor.environments.registry import make_vector_envs
from actor.environments.vector import Step, VectorEnv
from actor.networks.build import build_policy
from actor.networks.flat import FlatParameters
from actor.networks.policy import Inputs, Policy
from actor.spaces import Actions, Spaces
from protocol.moments import Moments
from tests.actor.counter import counters, discrete, vectors

SMALL = ActorSettings(envs=2, rollout_steps=7, hidden=(8,), normalize_observations=False, normalize_returns=False)
COUNTED = discrete(4)


def network(settings: ActorSettings = SMALL, observation_size: int = 2, actions: Actions = COUNTED) -> Policy:
    policy, flat = build_policy(settings, vectors(observation_size, actions), seed=0)
    return far_from_uniform(policy, flat)


def far_from_uniform(policy: Policy, flat: FlatParameters) -> Policy:
    theta = flat.vector()
    flat.load(theta + np.resize(np.linspace(-0.5, 0.5, 17, dtype=np.float32), len(theta)))
    return policy


def collector(mode: AutoresetMode, settings: ActorSettings = SMALL, seed: int = 0, **options: Any) -> Collector:
    return Collector([counters(mode, 2, 3, **options)], network(settings), distribution(COUNTED), settings, seed)


def replaced(**fields: Any) -> ActorSettings:
    return msgspec.structs.replace(SMALL, **fields)


def values_of(observations: list[list[float]]) -> np.ndarray:
    return network().values(np.array(observations, np.float32), np.zeros((len(observations), 0), np.float32))


def expected_log_probs(rollout: Rollout) -> np.ndarray:
    """Log-probabilities of every action in every row, float32 [T, B, A], by the network on the stored observations."""
    steps, count = rollout.actions.shape[:2]
    outputs, _, _ = network().forward_pass(Inputs(rollout.observations[:-1].reshape(steps * count, 2)))
    return torch.log_softmax(torch.from_numpy(outputs), 1).numpy().reshape(steps, count, 4)


def test_rows_of_next_step_mode() -> None:
    rollout = collector(AutoresetMode.NEXT_STEP).collect()
    assert rollout.observations[:, 0].tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2], [2, 0], [2, 1]]
    assert rollout.valid[:, 0].tolist() == [True, True, False, True, True, False, True]
    assert rollout.terminated[:, 0].tolist() == [False, True, False, False, True, False, False]
    assert rollout.starts[:, 0].tolist() == [True, False, False, True, False, False, True]
    assert rollout.env_steps == 5 + 6
    assert [length for _, length in rollout.episodes] == [2, 3, 2, 3]


def test_rows_of_same_step_mode() -> None:
    rollout = collector(AutoresetMode.SAME_STEP).collect()
    assert rollout.observations[:, 0].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1], [3, 0], [3, 1]]
    assert rollout.starts[:, 0].tolist() == [True, False, True, False, True, False, True]
    assert rollout.valid.all()
    assert rollout.env_steps == 14
    ends = [(t, rows.tolist(), seen.tolist()) for t, rows, seen in rollout.finals]
    first, second = ([0, 2], [1, 2], [2, 2]), ([0, 3], [1, 3])
    assert ends == [
        (1, [0], [first[0]]),
        (2, [1], [second[0]]),
        (3, [0], [first[1]]),
        (5, [0, 1], [first[2], second[1]]),
    ]


@pytest.mark.parametrize("terminates", [True, False])
def test_next_values_are_of_the_true_successor_in_both_modes(terminates: bool) -> None:
    following = collector(AutoresetMode.NEXT_STEP, terminates=terminates).collect()
    same = collector(AutoresetMode.SAME_STEP, terminates=terminates).collect()
    assert following.next_values is not None
    assert same.next_values is not None
    assert same.values is not None
    np.testing.assert_allclose(following.next_values[:2, 0], values_of([[0, 1], [0, 2]]), rtol=1e-5)
    np.testing.assert_allclose(same.next_values[:4, 0], values_of([[0, 1], [0, 2], [1, 1], [1, 2]]), rtol=1e-5)
    np.testing.assert_allclose(same.values[:4, 0], values_of([[0, 0], [0, 1], [1, 0], [1, 1]]), rtol=1e-5)


@pytest.mark.parametrize("terminates", [True, False])
def test_one_episode_has_the_same_advantages_in_both_modes(terminates: bool) -> None:
    def advantages(rollout: Rollout) -> np.ndarray:
        rewards = np.ones_like(rollout.rewards)  # the sampled actions differ between the modes
        assert rollout.values is not None
        assert rollout.next_values is not None
        outcome = (rollout.values, rollout.next_values, rollout.terminated, rollout.truncated, rollout.valid)
        return gae(rewards, *outcome, 0.9, 0.8)[:, 0]

    following = advantages(collector(AutoresetMode.NEXT_STEP, terminates=terminates).collect())
    same = advantages(collector(AutoresetMode.SAME_STEP, terminates=terminates).collect())
    np.testing.assert_allclose(following[[0, 1, 3, 4]], same[:4], rtol=1e-5)
    assert following[2] == 0


def test_the_next_rollout_starts_where_the_last_one_stopped() -> None:
    whole = collector(AutoresetMode.NEXT_STEP, replaced(rollout_steps=14)).collect()
    halves = collector(AutoresetMode.NEXT_STEP)
    first = halves.collect().observations.copy()
    second = halves.collect()
    np.testing.assert_array_equal(first[-1], second.observations[0])
    np.testing.assert_array_equal(np.concatenate([first[:-1], second.observations]), whole.observations)
    np.testing.assert_array_equal(second.valid, whole.valid[7:])
    np.testing.assert_array_equal(second.starts, whole.starts[7:])


def test_outputs_are_the_networks_on_what_it_saw() -> None:
    rollout = collector(AutoresetMode.NEXT_STEP).collect()
    ours = torch.log_softmax(torch.from_numpy(rollout.outputs[:-1]), 2)
    np.testing.assert_allclose(ours, expected_log_probs(rollout), rtol=1e-4, atol=1e-5)


def test_actions_are_samples_of_the_policy() -> None:
    """Four standard errors over the share of each action, which the rows' own probabilities predict."""
    rollout = collector(AutoresetMode.SAME_STEP, replaced(rollout_steps=4000)).collect()
    expected = np.exp(expected_log_probs(rollout)).mean((0, 1))
    shares = np.bincount(rollout.actions.ravel(), minlength=4) / rollout.actions.size
    assert np.ptp(expected) > 0.05
    np.testing.assert_allclose(shares, expected, atol=4 * 0.5 / np.sqrt(rollout.actions.size))


def test_the_seed_decides_the_actions() -> None:
    first, again, other = (collector(AutoresetMode.NEXT_STEP, seed=seed).collect().actions for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_rewards_are_scaled_for_learning_and_reported_raw() -> None:
    plain = collector(AutoresetMode.NEXT_STEP).collect()
    scaled = collector(AutoresetMode.NEXT_STEP, replaced(reward_scale=0.5)).collect()
    np.testing.assert_array_equal(scaled.rewards, plain.rewards * np.float32(0.5))
    assert scaled.episodes == plain.episodes


def test_rewards_are_clipped_before_they_are_scaled() -> None:
    plain = collector(AutoresetMode.NEXT_STEP).collect()
    clipped = collector(AutoresetMode.NEXT_STEP, replaced(reward_scale=0.5, reward_clip=1.5)).collect()
    assert plain.rewards.max() == 3
    np.testing.assert_array_equal(clipped.rewards, np.minimum(plain.rewards, 1.5) * np.float32(0.5))
    assert clipped.episodes == plain.episodes


RETURNS = replaced(normalize_returns=True, reward_scale=0.5, reward_clip=2.0, discount=0.9)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_moments_of_returns_run_over_the_border_of_rollouts_and_not_over_an_episodes_end(mode: AutoresetMode) -> None:
    """G = r + γ G from the start of each episode, environment by environment, over two rollouts as one."""
    eager = collector(mode, RETURNS)
    rollouts: list[Any] = []
    for _ in range(2):
        rollout = eager.collect()
        kept = rollout.rewards, rollout.starts, rollout.valid, rollout.moments
        rollouts.append([array.copy() if isinstance(array, np.ndarray) else array for array in kept])
    rewards, starts, valid = (np.concatenate([rollout[i] for rollout in rollouts]) for i in range(3))
    running = np.zeros(rewards.shape)
    for b in range(rewards.shape[1]):
        total = 0.0
        for t in range(len(rewards)):
            total = float(rewards[t, b]) + (0.0 if starts[t, b] else 0.9 * total)
            running[t, b] = total
    assert not starts[7].all()  # or there would be nothing to carry
    for i, (*_, moments) in enumerate(rollouts):
        rows = slice(7 * i, 7 * i + 7)
        seen = running[rows][valid[rows]]
        count, mean, m2 = moments
        assert (count, mean.shape) == (len(seen), (1,))
        np.testing.assert_allclose(mean[0], seen.mean(), rtol=1e-5)
        np.testing.assert_allclose(m2[0], seen.var() * count, rtol=1e-5)


def test_normalised_rewards_are_multiplied_and_clipped_and_moments_are_of_those_before() -> None:
    plain, eager = collector(AutoresetMode.NEXT_STEP, RETURNS), collector(AutoresetMode.NEXT_STEP, RETURNS)
    eager.return_scale = 15.0
    before, scaled = plain.collect(), eager.collect()
    assert before.rewards.max() == 1.0
    np.testing.assert_array_equal(scaled.rewards, np.minimum(before.rewards * 15.0, NORMAL_CLIP).astype(np.float32))
    assert scaled.moments is not None
    assert before.moments is not None
    np.testing.assert_array_equal(scaled.moments[1], before.moments[1])


def test_moments_of_observations_come_before_those_of_returns() -> None:
    both = collector(AutoresetMode.NEXT_STEP, replaced(normalize_observations=True, normalize_returns=True)).collect()
    only = [
        collector(AutoresetMode.NEXT_STEP, replaced(**{name: True})).collect().moments
        for name in ("normalize_observations", "normalize_returns")
    ]
    assert both.moments is not None
    assert only[0] is not None
    assert only[1] is not None
    np.testing.assert_allclose(both.moments[1], np.concatenate([only[0][1], only[1][1]]))
    np.testing.assert_allclose(both.moments[2], np.concatenate([only[0][2], only[1][2]]))


NORMALIZING = replaced(normalize_observations=True)
NORMALIZER = Normalizer(np.array([1, 0.5], np.float32), np.array([2, 100], np.float32))


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_observations_are_stored_as_the_policy_saw_them(mode: AutoresetMode) -> None:
    plain, eager = collector(mode).collect(), collector(mode, NORMALIZING)
    eager.normalizer = NORMALIZER
    rollout = eager.collect()
    expected = np.clip((plain.observations - [1, 0.5]) * [2, 100], -10, 10).astype(np.float32)
    np.testing.assert_array_equal(rollout.observations, expected)
    terminal = values_of([[-2.0, 10.0]])  # (0, 2) normalised and clipped
    assert rollout.next_values is not None
    np.testing.assert_allclose(rollout.next_values[1, :1], terminal, rtol=1e-5)


def test_a_normalizer_set_between_rollouts_holds_from_the_first_row() -> None:
    plain, eager = collector(AutoresetMode.NEXT_STEP), collector(AutoresetMode.NEXT_STEP, NORMALIZING)
    np.testing.assert_array_equal(eager.collect().observations, plain.collect().observations)
    eager.normalizer = NORMALIZER
    expected = np.clip((plain.collect().observations - [1, 0.5]) * [2, 100], -10, 10).astype(np.float32)
    np.testing.assert_array_equal(eager.collect().observations, expected)


def test_moments_are_of_raw_observations_at_valid_steps() -> None:
    plain, eager = collector(AutoresetMode.NEXT_STEP).collect(), collector(AutoresetMode.NEXT_STEP, NORMALIZING)
    eager.normalizer = NORMALIZER
    rollout = eager.collect()
    assert plain.moments is None
    assert rollout.moments is not None
    raw = plain.observations[:-1][plain.valid].astype(np.float64)
    count, mean, m2 = rollout.moments
    assert count == rollout.env_steps == len(raw)
    np.testing.assert_allclose(mean, raw.mean(0))
    np.testing.assert_allclose(m2, raw.var(0) * count)


class Film(VectorEnv):
    """Shows one grey level per environment and step: 10 · step + environment. Nothing ever ends."""

    def __init__(self) -> None:
        self.count, self.now = 2, 0
        self.spaces = Spaces((1, 40, 40), "uint8", COUNTED)

    def reset(self, seed: int) -> np.ndarray:
        return self._show()

    def send(self, actions: np.ndarray) -> None:
        self.now += 1

    def receive(self) -> Step:
        none = np.zeros(2, np.bool_)
        return Step(self._show(), np.zeros(2, np.float32), none, none, ~none, none, None, [])

    def _show(self) -> np.ndarray:
        levels = np.array([10 * self.now, 10 * self.now + 1], np.uint8)
        return np.broadcast_to(levels[:, None, None, None], (2, 1, 40, 40)).copy()


@pytest.mark.parametrize("options", [{"hidden": (8,)}, {"network": "a3c", "precision": "fp32"}])
def test_an_image_has_one_pair_of_moments_and_stays_bytes(options: dict[str, Any]) -> None:
    settings = replaced(normalize_observations=True, rollout_steps=3, **options)
    policy, _ = build_policy(settings, Film().spaces, seed=0)
    films = Collector([Film()], policy, distribution(COUNTED), settings, seed=0)
    films.collect()
    rollout = films.collect()  # its first row shows 30 and 31
    assert rollout.moments is not None
    count, mean, m2 = rollout.moments
    assert (count, mean.tolist(), m2.tolist()) == (6, [30.5], [pytest.approx(6 * 0.25)])
    assert rollout.observations.dtype == np.uint8
    images, state = rollout.observations[0].copy(), np.zeros((2, 0), np.float32)
    plain = policy.values(images, state)
    films.normalizer = Normalizer(np.array([30.5], np.float32), np.array([2.0], np.float32))
    assert np.abs(policy.values(images, state) - plain).max() > 1e-3
    films.normalizer = None
    np.testing.assert_array_equal(policy.values(images, state), plain)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("normalize", [False, True])
def test_hidden_numbers_are_zero_wherever_the_policy_looks(mode: AutoresetMode, normalize: bool) -> None:
    settings = replaced(hidden_observations=(0,), normalize_observations=normalize)
    plain, blind = collector(mode, replaced(normalize_observations=normalize)), collector(mode, settings)
    plain.normalizer = blind.normalizer = NORMALIZER
    seen, rollout = plain.collect().observations, blind.collect()
    assert seen[..., 0].any()
    assert not rollout.observations[..., 0].any()
    np.testing.assert_array_equal(rollout.observations[..., 1], seen[..., 1])
    assert all(not seen[..., 0].any() for _, _, seen in rollout.finals)
    assert rollout.values is not None
    assert rollout.next_values is not None
    flat = rollout.observations[:-1].reshape(-1, 2)
    np.testing.assert_allclose(rollout.values.ravel(), values_of(flat.tolist()), rtol=1e-5)
    if normalize:
        assert rollout.moments is not None
        assert rollout.moments[1][0] > 0  # of raw observations
    else:
        last = values_of([[0, 2]])
        np.testing.assert_allclose(rollout.next_values[1, :1], last, rtol=1e-5)


def test_an_action_value_network_gives_no_values() -> None:
    settings = replaced(algorithm="n_step_q")
    rollout = Collector(
        [counters(AutoresetMode.SAME_STEP, 2, 3)], network(settings), EpsilonGreedy(4), settings, 0
    ).collect()
    assert (rollout.values, rollout.next_values) == (None, None)
    assert [t for t, _, _ in rollout.finals] == [1, 2, 3, 5]


def test_sarsa_takes_the_action_that_it_was_to_take() -> None:
    """The next rollout's first action is the one drawn at the last row, whatever ε, weights and length have become."""
    settings = replaced(algorithm="one_step_sarsa")
    greedy = EpsilonGreedy(4)
    policy, flat = build_policy(settings, vectors(2, COUNTED), seed=0)
    eager = Collector([counters(AutoresetMode.NEXT_STEP, 2, 3)], policy, greedy, settings, 0)
    taken = []
    for n in range(12):
        announced = eager.collect().next_actions.copy()
        eager.set_length(7 - n // 6 * (n % 3))
        greedy.epsilon = 0.0
        flat.load(-flat.vector())
        rollout = eager.collect()
        np.testing.assert_array_equal(rollout.actions[0], announced)
        greedy.epsilon = 1.0
        taken.append((announced == rollout.outputs[0].argmax(1)[:, None]).all())
    assert not all(taken)  # the best at the new weights would often have been another


def recurrent(mode: AutoresetMode, memory: Literal["lstm", "gru"], lengths: tuple[int, ...] = (2, 3)) -> Collector:
    settings = replaced(memory=memory, memory_size=4)
    return Collector([counters(mode, *lengths)], network(settings), distribution(COUNTED), settings, 0)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("memory", ["lstm", "gru"])
def test_a_recurrent_policy_acted_as_its_sequence_pass_says_over_several_rollouts(
    mode: AutoresetMode, memory: Literal["lstm", "gru"]
) -> None:
    eager = recurrent(mode, memory, (4, 9))
    policy = network(replaced(memory=memory, memory_size=4))
    for n in range(3):
        rollout = eager.collect()
        inputs = Inputs(rollout.observations[:-1], rollout.state, rollout.starts)
        outputs, values, _ = policy.forward_pass(inputs)
        np.testing.assert_allclose(rollout.outputs[:-1].reshape(14, 4), outputs, atol=1e-5)
        assert values is not None
        np.testing.assert_allclose(np.asarray(rollout.values).ravel(), values, atol=1e-5)
        assert bool(n) == bool(rollout.state.any())  # carried over the border


@pytest.mark.parametrize("terminates", [True, False])
def test_a_recurrent_next_value_remembers_the_episode_that_ended(terminates: bool) -> None:
    """Both modes: V of (0, 2) after (0, 0) and (0, 1)."""
    settings = replaced(memory="gru", memory_size=4)
    policy = network(settings)
    episode = np.array([[[0, 0]], [[0, 1]], [[0, 2]]], np.float32)
    starts = np.array([[True], [False], [False]])
    _, values, _ = policy.forward_pass(Inputs(episode, np.zeros((1, 4), np.float32), starts))
    assert values is not None
    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        simulators = counters(mode, 2, 3, terminates=terminates)
        rollout = Collector([simulators], policy, distribution(COUNTED), settings, 0).collect()
        assert rollout.next_values is not None
        np.testing.assert_allclose(rollout.next_values[:2, 0], values[1:], rtol=1e-5)


def arrays(rollout: Rollout) -> dict[str, np.ndarray]:
    return {
        name: value.copy()
        for name in Rollout.__dataclass_fields__
        if isinstance(value := getattr(rollout, name), np.ndarray)
    }


class Noted:
    """A way to choose that takes its noise from a given array, and draws as the distribution does."""

    def __init__(self, noise: np.ndarray, actions: Actions = COUNTED) -> None:
        self._noise, self._draws = noise, distribution(actions)

    def noise(self, generator: np.random.Generator, steps: int, count: int) -> np.ndarray:
        first, self._noise = self._noise[:steps], self._noise[steps:]
        return first

    def draw(self, outputs: np.ndarray, noise: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
        return self._draws.draw(outputs, noise, masks)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("memory", ["none", "lstm"])
def test_two_groups_give_what_two_halves_give(mode: AutoresetMode, memory: Literal["none", "lstm"]) -> None:
    """Lengths 2 and 3 in one group, 4 and 5 in the other; over two rollouts."""
    settings = replaced(envs=4, memory=memory, memory_size=4)
    noise = distribution(COUNTED).noise(np.random.default_rng(0), 16, 4)

    def made(groups: list[tuple[int, ...]], rows: slice) -> Collector:
        simulators = [counters(mode, *lengths) for lengths in groups]
        return Collector(simulators, network(settings), Noted(noise[:, rows]), settings, 0)

    together = made([(2, 3), (4, 5)], slice(0, 4))
    halves = made([(2, 3)], slice(0, 2)), made([(4, 5)], slice(2, 4))
    for _ in range(2):
        whole = together.collect()
        parts = [half.collect() for half in halves]
        assert whole.env_steps == sum(part.env_steps for part in parts)
        assert sorted(whole.episodes) == sorted(parts[0].episodes + parts[1].episodes)
        for name, array in arrays(whole).items():
            axis = 0 if name in ("state", "next_actions") else 1
            joined = np.concatenate([getattr(part, name) for part in parts], axis)
            if name == "outputs" and memory == "none":  # row T is looked at where values come with it
                joined[-1] = array[-1]
            np.testing.assert_allclose(array, joined, rtol=1e-5, atol=1e-6, err_msg=name)


def test_while_one_group_steps_the_policy_sees_the_other() -> None:
    log: list[str] = []

    class Watched(VectorEnv):
        def __init__(self, name: str, inner: VectorEnv) -> None:
            vars(self).update(vars(inner))
            self._name = name

        def send(self, actions: np.ndarray) -> None:
            log.append(f"send {self._name}")
            super().send(actions)

        def receive(self) -> Any:
            log.append(f"receive {self._name}")
            return super().receive()

    groups = [Watched(name, counters(AutoresetMode.NEXT_STEP, 2)) for name in "ab"]
    Collector(groups, network(), distribution(COUNTED), replaced(rollout_steps=2), 0).collect()
    assert log == [
        "send a", "send b", "receive a", "send a", "receive b", "send b", "receive a", "receive b",
    ]  # fmt: skip


class Stream:
    """A way to choose that takes its noise from one stream, whatever length rollouts have: row T of a rollout is row 0
    of the next.
    """

    def __init__(self, inner: ActionSampler, count: int) -> None:
        self._noise, self._inner = inner.noise(np.random.default_rng(0), 64, count), inner

    def noise(self, generator: np.random.Generator, steps: int, count: int) -> np.ndarray:
        first, self._noise = self._noise[:steps], self._noise[steps - 1 :]
        return first

    def draw(self, outputs: np.ndarray, noise: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
        return self._inner.draw(outputs, noise, masks)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize(
    "changes",
    [
        {"normalize_returns": True, "discount": 0.9},
        {"normalize_observations": True, "hidden_observations": (0,)},
        {"memory": "lstm", "memory_size": 4},
        {"algorithm": "one_step_sarsa"},
    ],
    ids=",".join,
)
def test_rollouts_of_other_lengths_go_on_exactly_as_one_long_rollout_does(
    mode: AutoresetMode, changes: dict[str, Any]
) -> None:
    """Episodes, observations, the memory's state, the action that Sarsa announced, and discounted returns. Lengths 4
    and 9 in one group, 5 and 6 in the other, so that no border of rollouts is one of all episodes.
    """
    lengths = [7, 3, 12, 1, 1, 8]

    def made(steps: int) -> Collector:
        settings = replaced(rollout_steps=steps, envs=4, **changes)
        inner = EpsilonGreedy(4) if settings.algorithm != "a3c" else distribution(COUNTED)
        groups = [counters(mode, 4, 9), counters(mode, 5, 6)]
        found = Collector(groups, network(settings), Stream(inner, 4), settings, 0)
        found.normalizer = NORMALIZER if settings.normalize_observations else None
        return found

    whole, eager = made(sum(lengths)).collect(), made(lengths[0])
    begun, episodes, moments = 0, [], Moments.empty(0 if whole.moments is None else len(whole.moments[1]))
    announced: np.ndarray | None = None
    for length in lengths:
        eager.set_length(length)
        part, rows = eager.collect(), slice(begun, begun + length)
        for name in ("actions", "rewards", "terminated", "truncated", "valid", "starts"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[rows], err_msg=f"{name} {rows}")
        np.testing.assert_array_equal(part.observations, whole.observations[begun : begun + length + 1])
        np.testing.assert_allclose(part.outputs[:-1], whole.outputs[rows], atol=1e-6)
        for name in ("values", "next_values"):
            if (found := getattr(part, name)) is not None:
                np.testing.assert_allclose(found, getattr(whole, name)[rows], atol=1e-6, err_msg=f"{name} {rows}")
        assert part.state.any() == bool(begun and part.state.size)
        if announced is not None and "algorithm" in changes:
            np.testing.assert_array_equal(part.actions[0], announced)
        announced, begun = part.next_actions.copy(), begun + length
        episodes += part.episodes
        moments = moments if part.moments is None else moments.merge(Moments(*part.moments))
    assert episodes == whole.episodes
    assert len(episodes) > 15
    if whole.moments is not None:
        assert moments.count == whole.moments[0]
        np.testing.assert_allclose(moments.mean, whole.moments[1], rtol=1e-5)
        np.testing.assert_allclose(moments.m2, whole.moments[2], rtol=1e-4)


def test_a_length_that_a_rollout_has_already_changes_nothing() -> None:
    eager = collector(AutoresetMode.NEXT_STEP)
    first = eager.collect().observations
    eager.set_length(7)
    assert eager.collect().observations is first
    eager.set_length(8)
    assert len(eager.collect().actions) == 8


def test_a_length_may_be_set_before_the_first_rollout() -> None:
    eager = collector(AutoresetMode.NEXT_STEP)
    eager.set_length(3)
    rollout = eager.collect()
    assert rollout.observations[:, 0].tolist() == [[0, 0], [0, 1], [0, 2], [1, 0]]
    assert rollout.starts[0].all()


def test_pong_end_to_end() -> None:
    """Images are kept as the convolutions want them, one byte a pixel, and each rollout looks as the last one ended."""
    pytest.importorskip("ale_py")
    settings = ActorSettings(env="ALE/Pong-v5", envs=2, rollout_steps=3, network="a3c", precision="fp32", groups=2)
    groups = make_vector_envs(settings, frozenset())
    policy, _ = build_policy(settings, groups[0].spaces, 0)
    eager = Collector(groups, policy, distribution(groups[0].spaces.actions), settings, 0)
    last = eager.collect().observations[-1].copy()
    rollout = eager.collect()
    for group in groups:
        group.close()
    assert (rollout.observations.shape, rollout.observations.dtype.name) == ((4, 2, *policy.input_shape), "uint8")
    np.testing.assert_array_equal(rollout.observations[0], last)
    outputs, _, _ = policy.forward_pass(Inputs(rollout.observations[:-1].reshape(6, *policy.input_shape)))
    np.testing.assert_allclose(rollout.outputs[:-1].reshape(6, 6), outputs, atol=1e-5)


@pytest.mark.parametrize(("env", "width"), [("Pendulum-v1", 1)])
def test_real_numbers_end_to_end(env: str, width: int) -> None:
    settings = ActorSettings(env=env, envs=3, rollout_steps=20)
    groups = make_vector_envs(settings, frozenset())
    spaces = groups[0].spaces
    policy, _ = build_policy(settings, spaces, 0)
    rollout = Collector(groups, policy, distribution(spaces.actions), settings, 0).collect()
    groups[0].close()
    assert (rollout.actions.shape, rollout.actions.dtype.name) == ((20, 3, width), "float32")
    assert np.abs(rollout.actions).max() == 1.0  # a deviation of 1 meets the bounds
    assert (np.abs(rollout.actions) < 1.0).any()
    assert rollout.rewards.max() < 0


def test_cartpole_end_to_end() -> None:
    settings = ActorSettings(envs=4, rollout_steps=50, hidden=(8,))
    groups = make_vector_envs(settings, frozenset())
    rollout = Collector(groups, network(settings, 4, discrete(2)), distribution(discrete(2)), settings, 0).collect()
    groups[0].close()
    assert (rollout.observations.shape, rollout.rewards.dtype.name) == ((51, 4, 4), "float32")
    assert len(rollout.episodes) > 2
    assert all(score == length for score, length in rollout.episodes)
    assert not rollout.valid.all()
    assert not rollout.rewards[~rollout.valid].any()
