"""EnvPool's environments: the same tasks as Gymnasium's, one step beside the other, and what is refused."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray

from actor.config import ActorSettings
from actor.environments.conversion import spaces_of
from actor.environments.inprocess import InProcessEngine
from actor.environments.pool import SAME_AS_GYMNASIUM, Pool, has_same
from actor.environments.registry import check, describe, make_vector_envs
from actor.environments.vector import VectorEnv
from protocol.errors import SettingError, UserError
from tests.actor.counter import NONE_ALLOWED, Counter

needs_envpool = pytest.mark.skipif(find_spec("envpool") is None, reason="EnvPool is not installed")

Array = NDArray[Any]
ROWS = 4


class Task(NamedTuple):
    """What a test needs of one id. act: (observations, chance) -> actions; half of them lead to an end soon.

    state: Gymnasium's state for an observation.
    """

    act: Callable[[Array, np.random.Generator], Array]
    state: Callable[[Array], Array]
    limit: int  # steps


def _push(seen: Array, chance: np.random.Generator) -> Array:
    """CartPole: the upper rows stay upright for a while."""
    return np.where(np.arange(len(seen)) % 2, seen[:, 2] + 0.5 * seen[:, 3] > 0, chance.integers(0, 2, len(seen)))


def _swing(velocity: Array, chance: np.random.Generator) -> Array:
    """Actions 0 to 2 along with what moves."""
    return np.where(np.arange(len(velocity)) % 2, np.where(velocity > 0, 2, 0), chance.integers(0, 3, len(velocity)))


def _throttle(along: Array, chance: np.random.Generator, most: float) -> Array:
    chosen = np.where(np.arange(len(along)) % 2, np.sign(along), chance.uniform(-1, 1, len(along)))
    return (most * chosen).astype(np.float32)[:, None]


TASKS = {
    "Acrobot-v1": Task(
        lambda seen, chance: _swing(seen[:, 5], chance),
        lambda seen: np.array([math.atan2(seen[1], seen[0]), math.atan2(seen[3], seen[2]), seen[4], seen[5]]),
        500,
    ),
    "CartPole-v1": Task(_push, lambda seen: seen.astype(np.float64), 500),
    "MountainCar-v0": Task(lambda seen, chance: _swing(seen[:, 1], chance), lambda seen: seen.astype(np.float64), 200),
    "MountainCarContinuous-v0": Task(
        lambda seen, chance: _throttle(seen[:, 1], chance, 1.3), lambda seen: seen.copy(), 999
    ),
}


def step(pool: Pool, actions: Array) -> tuple[Array, ...]:
    """Observations, rewards, terminated, truncated."""
    pool.send(actions)
    return pool.recv()[:4]


@needs_envpool
def test_the_tasks_below_are_those_that_auto_takes() -> None:
    assert TASKS.keys() == SAME_AS_GYMNASIUM
    assert all(map(has_same, SAME_AS_GYMNASIUM))


@needs_envpool
@pytest.mark.parametrize("env_id", TASKS)
def test_the_same_state_and_action_lead_to_the_same_step(env_id: str) -> None:
    task, pool = TASKS[env_id], Pool(env_id, ROWS, {})
    gymnasiums: Any = gymnasium.make(env_id).unwrapped
    gymnasiums.reset()
    seen, _ = pool.reset(seed=7)
    chance, lengths, over = np.random.default_rng(7), np.zeros(ROWS, int), np.zeros(ROWS, bool)
    ends = {"terminated": 0, "truncated": 0}
    for _ in range(task.limit + 2):
        actions = task.act(seen, chance)
        after, rewards, terminated, truncated = step(pool, actions)
        for row in np.flatnonzero(~over):
            gymnasiums.state = task.state(seen[row])
            if hasattr(gymnasiums, "steps_beyond_terminated"):
                gymnasiums.steps_beyond_terminated = None
            expected, reward, ended, _, _ = gymnasiums.step(actions[row])
            np.testing.assert_allclose(after[row], expected, rtol=2e-4, atol=2e-5)
            np.testing.assert_allclose(rewards[row], reward, rtol=1e-4, atol=1e-4)
            assert terminated[row] == ended
            assert truncated[row] == (lengths[row] + 1 == task.limit)
        lengths = np.where(over, 0, lengths + 1)
        over = terminated | truncated
        ends["terminated"] += int(terminated.sum())
        ends["truncated"] += int(truncated.sum())
        seen = after
    assert ends["truncated"] > 0
    assert ends["terminated"] > 0
    pool.close()


@needs_envpool
@pytest.mark.parametrize("env_id", TASKS)
def test_spaces_limits_and_first_observations_are_the_same(env_id: str) -> None:
    count = 400
    one, pool = gymnasium.make(env_id), Pool(env_id, count, {})
    theirs = spaces_of(env_id, pool.single_observation_space, pool.single_action_space)
    assert theirs == spaces_of(env_id, one.observation_space, one.action_space)
    assert one.spec is not None
    assert one.spec.max_episode_steps == TASKS[env_id].limit
    expected = np.sort([one.reset(seed=seed)[0] for seed in range(count)], 0)
    first = np.sort(pool.reset(seed=0)[0], 0)
    for ours, known in zip(first.T, expected.T, strict=True):  # Kolmogorov and Smirnov, at one in a thousand
        below = [np.searchsorted(numbers, known, "right") / count for numbers in (ours, known)]
        assert np.abs(below[0] - below[1]).max() < 1.95 * math.sqrt(2 / count)
    pool.close()


@needs_envpool
@pytest.mark.parametrize("env_id", [*TASKS, "LunarLander-v3"])
def test_an_end_in_the_step_of_the_limit_is_one(env_id: str) -> None:
    def ends(limit: dict[str, int]) -> tuple[int, Array, Array]:
        """The first step in which a row terminates, and who is terminated and truncated there, or in the limit's."""
        pool = Pool(env_id, ROWS, limit)
        seen, _ = pool.reset(seed=7)
        chance = np.random.default_rng(7)
        for number in range(1, 1000):
            actions = TASKS[env_id].act(seen, chance) if env_id in TASKS else np.zeros(ROWS, np.int64)
            seen, _, terminated, truncated = step(pool, actions)
            if terminated.any() or truncated.any():
                return number, terminated, truncated
        raise AssertionError("nothing ended")

    number, terminated, truncated = ends({"max_episode_steps": 2000})
    assert terminated.any()
    assert not terminated.all()
    assert not truncated.any()
    again, still, cut = ends({"max_episode_steps": number})
    assert again == number
    np.testing.assert_array_equal(still, terminated)
    assert cut.all()


@needs_envpool
def test_why_auto_does_not_take_pendulum() -> None:
    pool = Pool("Pendulum-v1", ROWS, {})
    seen, _ = pool.reset(seed=7)
    farther = 0
    for _ in range(190):
        speed, torque = seen[:, 2], 2.0 * np.sign(seen[:, 2])
        unbounded = speed + 0.05 * (15.0 * seen[:, 1] + 3.0 * torque)
        angle = np.arctan2(seen[:, 1], seen[:, 0])
        seen = step(pool, torque.astype(np.float32)[:, None])[0]
        moved = np.arctan2(seen[:, 1], seen[:, 0]) - angle
        gymnasiums = 0.05 * np.clip(unbounded, -8.0, 8.0)
        farther += int((np.abs(np.sin(moved - gymnasiums)) > 1e-3).sum())
    assert farther > 0
    pool.close()


def inner(simulators: VectorEnv) -> Any:
    assert isinstance(simulators.engine, InProcessEngine)
    return simulators.engine.env


@needs_envpool
def test_auto_takes_it_where_the_task_is_the_same_and_gymnasium_has_no_vector_of_its_own() -> None:
    def taken(settings: ActorSettings, pools: bool = True) -> bool:
        (envs,) = make_vector_envs(settings, NONE_ALLOWED, pools=pools)
        envs.close()
        return isinstance(inner(envs), Pool)

    assert taken(ActorSettings(env="Acrobot-v1", envs=2))
    assert not taken(ActorSettings(env="Acrobot-v1", envs=2), pools=False)
    assert not taken(ActorSettings(env="Acrobot-v1", envs=2, vectorization="envpool"), pools=False)
    assert not taken(ActorSettings(env="Acrobot-v1", envs=2, vectorization="sync"))
    assert not taken(ActorSettings(env="MountainCar-v0", envs=2, env_options={"goal_velocity": 0.01}))
    assert not taken(ActorSettings(env="Pendulum-v1", envs=2))
    assert not taken(ActorSettings(env="CartPole-v1", envs=2))
    assert taken(ActorSettings(env="CartPole-v1", envs=2, vectorization="envpool"))


@needs_envpool
def test_what_a_user_registers_under_a_known_id_stays_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(gymnasium.registry, "Acrobot-v1")
    made: Any = Counter
    gymnasium.register("Acrobot-v1", made, disable_env_checker=True)
    (envs,) = make_vector_envs(ActorSettings(env="Acrobot-v1", envs=2), NONE_ALLOWED)
    assert not isinstance(inner(envs), Pool)
    envs.close()


def test_without_it_auto_is_gymnasiums_and_envpool_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("actor.environments.pool.version", missing)
    monkeypatch.setitem(sys.modules, "envpool", None)
    (envs,) = make_vector_envs(ActorSettings(env="Acrobot-v1", envs=2), NONE_ALLOWED)
    envs.close()
    with pytest.raises(UserError, match=r'not installed: pip install "farflung\[envpool\]"'):
        check(ActorSettings(env="Acrobot-v1", vectorization="envpool"), NONE_ALLOWED)


@pytest.mark.parametrize(("release", "taken"), [("1.2.5", True), ("1.2.9", True), ("1.20.0", False), ("2.0", False)])
def test_a_release_that_was_not_compared_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, release: str, taken: bool
) -> None:
    monkeypatch.setattr("actor.environments.pool.version", lambda _: release)
    assert has_same("Acrobot-v1") is taken


@needs_envpool
@pytest.mark.parametrize(
    ("env_id", "options", "said"),
    [
        ("CartPole-v9", {}, r"actor\.env = 'CartPole-v9': EnvPool has no such environment; did you mean CartPole-v1"),
        ("corridor:Corridor-v0", {}, "EnvPool has no such environment"),
        ("CartPole-v1", {"gravity": 3.0}, r"env_options\.gravity.*no such option, but max_episode_steps, num_threads"),
        ("CartPole-v1", {"max_episode_steps": "9"}, r"env_options\.max_episode_steps = '9': expected int, as 500"),
        ("CartPole-v1", {"num_envs": 3}, r"env_options\.num_envs = 3: the actor sets this itself"),
        ("CartPole-v1", {"num_threads": 0}, r"env_options\.num_threads = 0: expected 1 to 256"),
        ("CartPole-v1", {"num_threads": 257}, r"env_options\.num_threads = 257: expected 1 to 256"),
        ("CartPole-v1", {"max_episode_steps": 1 << 40}, r"env_options = .*: EnvPool's CartPole-v1 refused them"),
    ],
)
def test_what_it_does_not_have_is_refused(env_id: str, options: dict[str, object], said: str) -> None:
    settings = ActorSettings(env=env_id, env_options=options, vectorization="envpool")
    for looks in (check, describe, make_vector_envs):
        with pytest.raises(SettingError, match=said):
            looks(settings, NONE_ALLOWED)


@needs_envpool
def test_the_seed_decides_a_row_whatever_its_place_and_the_threads() -> None:
    settings = ActorSettings(env="Pendulum-v1", envs=4, vectorization="envpool", env_options={"num_threads": 2})
    (many,) = make_vector_envs(settings, NONE_ALLOWED)
    few = Pool("Pendulum-v1", 2, {})
    first, later = many.reset(5).copy(), few.reset(seed=7)[0]
    np.testing.assert_array_equal(first[2:], later)
    assert len(np.unique(first, axis=0)) == 4
    np.testing.assert_array_equal(many.reset(5), first)
    many.close()
    few.close()


@needs_envpool
def test_a_finished_row_resets_in_the_next_step_and_counts_one_episode() -> None:
    settings = ActorSettings(env="CartPole-v1", envs=2, vectorization="envpool", env_options={"max_episode_steps": 4})
    (envs,) = make_vector_envs(settings, NONE_ALLOWED)
    envs.reset(3)
    steps = [envs.step(np.zeros((2, 1), np.int64)) for _ in range(9)]
    assert [bool(each.valid.all()) for each in steps] == [True] * 4 + [False] + [True] * 4
    assert [each.truncated.tolist() for each in steps].count([True, True]) == 2
    assert [each.episodes for each in steps if each.episodes] == [[(4.0, 4)] * 2] * 2
    assert steps[4].starts.all()
    envs.close()


@needs_envpool
def test_one_that_only_envpool_has_can_be_described() -> None:
    settings = ActorSettings(env="Catch-v0", vectorization="envpool")
    assert describe(settings, NONE_ALLOWED).observation_size == 50
