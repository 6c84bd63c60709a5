"""Simulators as arrays: checks before anything runs, spaces, autoreset modes, the episodes' book."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from actor.config import ActorSettings
from actor.envs import Simulators, Spaces, describe, make_simulators
from protocol.errors import SettingError, UserError

NONE_ALLOWED: frozenset[str] = frozenset()


class Counter(gymnasium.Env[np.ndarray, Any]):
    """Observes (episode, steps taken) as [2, 1]; action ``start + n`` is rewarded with n; ends after ``length``."""

    def __init__(self, length: int = 3, terminates: bool = True, start: int = 0) -> None:
        self.observation_space = Box(-np.inf, np.inf, (2, 1), np.float64)
        self.action_space = Discrete(4, start=start)
        self._length, self._terminates, self._start = length, terminates, start
        self._episode, self._taken = -1, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._episode, self._taken = self._episode + 1, 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self._taken += 1
        over, reward = self._taken >= self._length, float(action - self._start)
        return self._observe(), reward, over and self._terminates, over and not self._terminates, {}

    def _observe(self) -> np.ndarray:
        return np.array([[self._episode], [self._taken]], np.float64)


class Odd(Counter):
    """A Counter with a space that we do not take."""

    def __init__(self, which: str) -> None:
        super().__init__()
        if which == "observations":
            self.observation_space = Discrete(5)  # type: ignore[assignment]
        else:
            self.action_space = MultiDiscrete([2, 2])


class Uninstalled(Counter):
    """A simulator whose library is missing."""

    def __init__(self) -> None:
        raise gymnasium.error.DependencyNotInstalled("swig and more")


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    ids: dict[str, Any] = {"Counter-v0": Counter, "Odd-v0": Odd, "Uninstalled-v0": Uninstalled}
    for name, entry_point in ids.items():
        gymnasium.register(name, entry_point, disable_env_checker=True)
    yield
    for name in ids:
        del gymnasium.registry[name]


def counters(mode: AutoresetMode, *lengths: int, **options: Any) -> Simulators:
    makers = [lambda length=length: Counter(length, **options) for length in lengths]
    simulators = Simulators(SyncVectorEnv(makers, autoreset_mode=mode, copy=False), "Counter-v0")
    simulators.reset(0)
    return simulators


def actions(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


@pytest.mark.parametrize("env", ["", "CartPole v1", "a:b:c-v0", ":CartPole-v1", "os;x:Env-v0", "../x-v0", "a/b/c-v0"])
def test_an_id_that_is_none_is_refused(env: str) -> None:
    with pytest.raises(SettingError, match="not an id"):
        describe(ActorSettings(env=env), NONE_ALLOWED)


@pytest.mark.parametrize(("env", "nearest"), [("CartPool-v1", "CartPole-v1"), ("CartPole", "CartPole-v1")])
def test_an_unknown_id_is_refused_with_the_nearest(env: str, nearest: str) -> None:
    with pytest.raises(SettingError, match=f"did you mean {nearest}"):
        make_simulators(ActorSettings(env=env), NONE_ALLOWED)


def test_a_module_that_is_not_allowed_is_not_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "untrusted_simulator.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="--allow-module untrusted_simulator"):
        make_simulators(ActorSettings(env="untrusted_simulator:CartPole-v1"), frozenset({"untrusted"}))
    assert "untrusted_simulator" not in sys.modules


def test_an_allowed_module_is_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "trusted_simulator.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    spaces = describe(ActorSettings(env="trusted_simulator:CartPole-v1"), frozenset({"trusted_simulator"}))
    assert spaces.actions == 2
    del sys.modules["trusted_simulator"]


def test_an_allowed_module_that_is_missing_is_named() -> None:
    with pytest.raises(UserError, match="no_such_simulator"):
        describe(ActorSettings(env="no_such_simulator:X-v0"), frozenset({"no_such_simulator"}))


def test_a_missing_library_names_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "Box2D", None)
    with pytest.raises(UserError, match=r'pip install "farflung\[box2d\]"'):
        describe(ActorSettings(env="LunarLander-v3"), NONE_ALLOWED)
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(UserError, match=r'pip install "gymnasium\[atari\]"'):
        describe(ActorSettings(env="ALE/Pong-v5"), NONE_ALLOWED)


def test_a_missing_library_of_no_extra_is_told_in_its_own_words() -> None:
    with pytest.raises(UserError, match="swig and more"):
        describe(ActorSettings(env="Uninstalled-v0"), NONE_ALLOWED)


@pytest.mark.parametrize(("which", "word"), [("observations", "must be a Box"), ("actions", "must be Discrete")])
def test_other_spaces_are_refused_by_name(which: str, word: str) -> None:
    with pytest.raises(SettingError, match=word):
        make_simulators(ActorSettings(env="Odd-v0", env_options={"which": which}, envs=2), NONE_ALLOWED)


@pytest.mark.parametrize("option", ["num_envs", "vectorization_mode", "wrappers"])
def test_options_cannot_reach_past_the_environment(option: str) -> None:
    with pytest.raises(SettingError, match=f"actor.env_options.{option}"):
        describe(ActorSettings(env="Counter-v0", env_options={option: 3}), NONE_ALLOWED)


def test_an_option_that_the_environment_lacks_is_a_setting_error() -> None:
    with pytest.raises(SettingError, match="gravitas"):
        describe(ActorSettings(env="Counter-v0", env_options={"gravitas": 3}), NONE_ALLOWED)


def test_describe_flattens_observations_of_any_rank() -> None:
    assert describe(ActorSettings(env="Counter-v0"), NONE_ALLOWED) == Spaces((2, 1), 2, 4)


def test_auto_takes_the_environments_own_vectorisation_and_else_sync() -> None:
    own = make_simulators(ActorSettings(env="CartPole-v1", envs=2), NONE_ALLOWED)
    plain = make_simulators(ActorSettings(env="Counter-v0", envs=2), NONE_ALLOWED)
    assert not isinstance(own._env, SyncVectorEnv)
    assert isinstance(plain._env, SyncVectorEnv)
    with pytest.raises(SettingError, match=r"actor\.vectorization"):
        describe(ActorSettings(env="Counter-v0", vectorization="vector_entry_point"), NONE_ALLOWED)


def test_the_seed_decides_the_episodes() -> None:
    simulators = make_simulators(ActorSettings(envs=3), NONE_ALLOWED)
    first, again, other = (simulators.reset(seed).copy() for seed in (1, 1, 2))
    assert (first.dtype.name, first.shape) == ("float32", (3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    simulators.close()


def test_next_step_mode_masks_the_row_that_only_resets() -> None:
    simulators = counters(AutoresetMode.NEXT_STEP, 2, 9)
    steps = []
    for _ in range(4):
        step = simulators.step(actions(1, 2))
        steps.append((step.observations[0].tolist(), step.rewards[0], bool(step.terminated[0]), bool(step.valid[0])))
        assert step.final_observations is None
        assert step.valid[1]
    before, last, reset, after = steps
    assert (before, last) == (([0, 1], 1, False, True), ([0, 2], 1, True, True))
    assert (reset, after) == (([1, 0], 0, False, False), ([1, 1], 1, False, True))


def test_same_step_mode_hands_over_the_true_successor() -> None:
    simulators = counters(AutoresetMode.SAME_STEP, 2, 9)
    first, second = simulators.step(actions(1, 2)), simulators.step(actions(1, 2))
    assert first.final_observations is None
    assert second.valid.all()
    assert second.observations.tolist() == [[1, 0], [0, 2]]
    assert second.final_observations is not None
    assert second.final_observations.tolist() == [[0, 2], [0, 2]]


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("terminates", [True, False])
def test_the_book_of_episodes(mode: AutoresetMode, terminates: bool) -> None:
    simulators = counters(mode, 2, 3, terminates=terminates)
    finished = []
    for t in range(7):
        step = simulators.step(actions(t % 4, 1))
        finished.append(step.episodes)
        assert not (step.truncated if terminates else step.terminated).any()
    if mode is AutoresetMode.NEXT_STEP:
        assert finished == [[], [(1.0, 2)], [(3.0, 3)], [], [(3.0, 2)], [], [(3.0, 3)]]
    else:
        assert finished == [[], [(1.0, 2)], [(3.0, 3)], [(5.0, 2)], [], [(1.0, 2), (3.0, 3)], []]


def test_a_reset_closes_the_book() -> None:
    simulators = counters(AutoresetMode.NEXT_STEP, 2)
    simulators.step(actions(3))
    simulators.reset(1)
    assert simulators.step(actions(1)).episodes == []
    assert simulators.step(actions(1)).episodes == [(2.0, 2)]
    simulators.reset(1)
    assert simulators.step(actions(1)).valid.all()


def test_actions_that_start_elsewhere_are_numbered_from_zero() -> None:
    simulators = counters(AutoresetMode.NEXT_STEP, 5, start=7)
    assert simulators.spaces.actions == 4
    assert simulators.step(actions(3)).rewards.tolist() == [3.0]


def test_disabled_autoreset_is_refused() -> None:
    with pytest.raises(SettingError, match="Disabled"):
        counters(AutoresetMode.DISABLED, 3)
