"""Environments by their ids: checks before anything runs, and how they are vectorised and grouped."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import msgspec
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, Text
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from actor.config import ActorSettings
from actor.environments.inprocess import InProcessEngine
from actor.environments.registry import describe, make_one, make_vector_envs
from actor.environments.vector import VectorEnv
from actor.monitoring import log
from actor.spaces import Actions, Part, Spaces
from protocol.errors import SettingError, UserError
from tests.actor import broken_envs
from tests.actor.counter import NONE_ALLOWED, Counter


class Odd(Counter):
    """A Counter with a space that we do not take."""

    def __init__(self, which: str) -> None:
        super().__init__()
        if which == "observations":
            self.observation_space = Text(5)  # type: ignore[assignment]
        else:
            self.action_space = Text(5)


class Wide(Counter):
    """A Counter that observes 70,000 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = Box(0.0, 1.0, (70_000,))


class Numbered(Counter):
    """A Counter that observes one of five numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = Discrete(5)  # type: ignore[assignment]


class Scarce(Counter):
    """A Counter of which there are only so many."""

    left = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).left -= 1
        if self.left < 0:
            raise UserError("no more of them")


class Stopping(SyncVectorEnv):
    """A vector environment that leaves a finished row to its caller."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__([Counter] * kwargs["num_envs"], autoreset_mode=AutoresetMode.DISABLED)


class Uninstalled(Counter):
    """A simulator whose library is missing."""

    def __init__(self) -> None:
        raise gymnasium.error.DependencyNotInstalled("swig and more")


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    ids: dict[str, Any] = {"Counter-v0": Counter, "Odd-v0": Odd, "Numbered-v0": Numbered, "Uninstalled-v0": Uninstalled}
    ids |= {"Wide-v0": Wide, "Scarce-v0": Scarce}
    for name, entry_point in ids.items():
        gymnasium.register(name, entry_point, disable_env_checker=True)
    gymnasium.register("Stopping-v0", vector_entry_point=Stopping)
    yield
    for name in (*ids, "Stopping-v0"):
        del gymnasium.registry[name]


def inner(simulators: VectorEnv) -> Any:
    """The vector environment behind them."""
    assert isinstance(simulators.engine, InProcessEngine)
    return simulators.engine.env


@pytest.mark.parametrize("env", ["", "CartPole v1", "a:b:c-v0", ":CartPole-v1", "os;x:Env-v0", "../x-v0", "a/b/c-v0"])
def test_an_id_that_is_none_is_refused(env: str) -> None:
    with pytest.raises(SettingError, match="not an id"):
        describe(ActorSettings(env=env), NONE_ALLOWED)


@pytest.mark.parametrize(("env", "nearest"), [("CartPool-v1", "CartPole-v1"), ("CartPole", "CartPole-v1")])
def test_an_unknown_id_is_refused_with_the_nearest(env: str, nearest: str) -> None:
    with pytest.raises(SettingError, match=f"did you mean {nearest}"):
        make_vector_envs(ActorSettings(env=env), NONE_ALLOWED)


def test_an_unknown_id_is_told_how_an_environment_of_ones_own_is_named() -> None:
    with pytest.raises(SettingError, match=r"\(one of your own is MODULE:Point-v0 with --allow-module MODULE\)"):
        make_vector_envs(ActorSettings(env="Point-v0"), NONE_ALLOWED)


def test_the_nearest_id_comes_with_the_module_that_was_named() -> None:
    with pytest.raises(SettingError, match=r"did you mean tests\.actor\.counter:CartPole-v1\?"):
        make_vector_envs(ActorSettings(env="tests.actor.counter:CartPool-v1"), frozenset(["tests.actor.counter"]))


def test_a_module_that_is_not_allowed_is_not_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "untrusted_simulator.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="--allow-module untrusted_simulator"):
        make_vector_envs(ActorSettings(env="untrusted_simulator:CartPole-v1"), frozenset({"untrusted"}))
    assert "untrusted_simulator" not in sys.modules


def test_an_allowed_module_is_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "trusted_simulator.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    spaces = describe(ActorSettings(env="trusted_simulator:CartPole-v1"), frozenset({"trusted_simulator"}))
    assert spaces.actions.sizes == (2,)
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
    with pytest.raises(UserError, match=r'pip install "farflung\[atari\]"'):
        describe(ActorSettings(env="ALE/Pong-v5"), NONE_ALLOWED)


def test_a_missing_library_of_no_extra_is_told_in_its_own_words() -> None:
    with pytest.raises(UserError, match="swig and more"):
        describe(ActorSettings(env="Uninstalled-v0"), NONE_ALLOWED)


@pytest.mark.parametrize(
    ("which", "word"), [("observations", "observations must be Box"), ("actions", "actions must be Discrete")]
)
def test_other_spaces_are_refused_by_name(which: str, word: str) -> None:
    with pytest.raises(SettingError, match=word):
        make_vector_envs(ActorSettings(env="Odd-v0", env_options={"which": which}, envs=2), NONE_ALLOWED)


@pytest.mark.parametrize("option", ["num_envs", "vectorization_mode", "wrappers"])
def test_options_cannot_reach_past_the_environment(option: str) -> None:
    with pytest.raises(SettingError, match=f"actor.env_options.{option}"):
        describe(ActorSettings(env="Counter-v0", env_options={option: 3}), NONE_ALLOWED)


def test_an_option_that_the_environment_lacks_is_a_setting_error() -> None:
    with pytest.raises(SettingError, match="gravitas"):
        describe(ActorSettings(env="Counter-v0", env_options={"gravitas": 3}), NONE_ALLOWED)


COUNTED = Spaces((2,), "float32", Actions("discrete", (4,), (0.0,), (1.0,)), parts=(Part("", 0, (2, 1)),))


def test_describe_flattens_observations_of_any_rank() -> None:
    assert describe(ActorSettings(env="Counter-v0"), NONE_ALLOWED) == COUNTED


def test_auto_takes_the_environments_own_vectorisation_and_else_sync() -> None:
    (own,) = make_vector_envs(ActorSettings(env="CartPole-v1", envs=2), NONE_ALLOWED)
    (plain,) = make_vector_envs(ActorSettings(env="Counter-v0", envs=2), NONE_ALLOWED)
    assert not isinstance(inner(own), SyncVectorEnv)
    assert isinstance(inner(plain), SyncVectorEnv)
    with pytest.raises(SettingError, match=r"actor\.vectorization"):
        describe(ActorSettings(env="Counter-v0", vectorization="vector_entry_point"), NONE_ALLOWED)


def test_environments_in_groups() -> None:
    groups = make_vector_envs(ActorSettings(env="Counter-v0", envs=6, groups=3), NONE_ALLOWED)
    assert [group.count for group in groups] == [2, 2, 2]
    assert len({id(inner(group)) for group in groups}) == 3


def test_a_group_that_cannot_be_made_closes_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    monkeypatch.setattr(Scarce, "left", 1)
    monkeypatch.setattr(SyncVectorEnv, "close", lambda env: closed.append(env.num_envs))
    with pytest.raises(UserError, match="no more of them"):
        make_vector_envs(ActorSettings(env="Scarce-v0", envs=2, groups=2), NONE_ALLOWED)
    assert closed == [1]


def test_what_goes_wrong_in_this_process_is_logged(capfd: pytest.CaptureFixture[str]) -> None:
    (env,) = make_vector_envs(ActorSettings(env=broken_envs.UNPAID, envs=1), NONE_ALLOWED)
    env.reset(0)
    env.step(np.zeros((1, 1), np.int64))
    env.close()
    log.close()
    (line,) = capfd.readouterr().err.splitlines()
    told = msgspec.json.decode(line)
    assert (told["event"], told["row"], told["kind"]) == ("simulator_failed", 0, "reward_not_finite")


def test_the_seed_decides_the_episodes() -> None:
    (simulators,) = make_vector_envs(ActorSettings(envs=3), NONE_ALLOWED)
    first, again, other = (simulators.reset(seed).copy() for seed in (1, 1, 2))
    assert (first.dtype.name, first.shape) == ("float32", (3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    simulators.close()


def test_disabled_autoreset_is_refused() -> None:
    with pytest.raises(SettingError, match="Disabled"):
        make_vector_envs(ActorSettings(env="Stopping-v0", envs=2), NONE_ALLOWED)


def test_one_environment_by_itself_passes_the_same_checks() -> None:
    alone = make_one("Counter-v0", {"length": 1}, NONE_ALLOWED)
    alone.reset()
    assert alone.step(3)[1:3] == (3.0, True)
    with pytest.raises(UserError, match="--allow-module elsewhere"):
        make_one("elsewhere:Counter-v0", {}, NONE_ALLOWED)
    with pytest.raises(UserError, match="swig and more"):
        make_one("Uninstalled-v0", {}, NONE_ALLOWED)


@pytest.mark.parametrize("hidden", [(2,), (0, 7)])
def test_a_hidden_number_that_is_not_there_is_refused(hidden: tuple[int, ...]) -> None:
    settings = ActorSettings(env="Counter-v0", hidden_observations=hidden)
    with pytest.raises(SettingError, match=r"actor\.hidden_observations.*below 2"):
        describe(settings, NONE_ALLOWED)
    with pytest.raises(SettingError, match=r"actor\.hidden_observations"):
        make_vector_envs(settings, NONE_ALLOWED)


def test_more_numbers_than_a_message_has_room_for_cannot_be_normalised() -> None:
    wide = ActorSettings(env="Wide-v0", normalize_observations=True)
    with pytest.raises(SettingError, match=r"actor\.normalize_observations.*70,000.*65,535"):
        describe(wide, NONE_ALLOWED)
    assert (
        describe(msgspec.structs.replace(wide, normalize_observations=False), NONE_ALLOWED).observation_size == 70_000
    )


def test_the_spaces_of_pong() -> None:
    pytest.importorskip("ale_py")
    spaces = describe(ActorSettings(env="ALE/Pong-v5", envs=2), NONE_ALLOWED)
    assert (spaces.observation_shape, spaces.observation_type, spaces.actions.outputs) == ((4, 84, 84), "uint8", 6)
