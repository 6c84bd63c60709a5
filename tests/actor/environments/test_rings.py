"""Every method's targets on walks whose values are known: however episodes end, reset, and lie in rollouts.

The network is the table of true values, so each target of a row that counts must be that row's own value.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import pytest

from actor.algorithms.own import make_method
from actor.algorithms.rollout import Collector
from actor.config import ActorSettings
from actor.environments.contract import ContractViolation
from actor.environments.registry import make_vector_envs
from actor.environments.vector import VectorEnv
from actor.networks.build import build_policy
from actor.networks.policy import Policy
from actor.spaces import Spaces
from protocol.errors import SettingError
from tests.actor.environments import rings

HERE = frozenset({"tests.actor.environments.rings"})
# Methods that can learn from the same rollouts.
FAMILIES: tuple[tuple[dict[str, Any], ...], ...] = (
    ({"gae_lambda": 0.7}, {"targets": "n_step"}, {"targets": "vtrace"}),
    ({"algorithm": "n_step_q"}, {"algorithm": "one_step_q"}),
    ({"algorithm": "one_step_sarsa"},),
)


class Way(NamedTuple):
    """How the environments are made."""

    env: str = "tests.actor.environments.rings:Ring-v0"
    groups: int = 1
    options: tuple[tuple[str, str], ...] = ()
    vectorization: Literal["auto", "processes"] = "auto"

    @property
    def waits(self) -> bool:
        """Whether a row that only resets lies between two episodes."""
        return self.vectorization == "auto" and dict(self.options).get("mode") != "same"


VECTOR = "tests.actor.environments.rings:RingVector-v0"
WAYS = {
    "sync": Way(),
    "groups": Way(groups=2),
    "next": Way(VECTOR, 1, (("flags", "uint8"),)),
    "same, old key": Way(VECTOR, 1, (("mode", "same"), ("finals", "old"), ("flags", "int64"))),
    "same, dense": Way(VECTOR, 2, (("mode", "same"), ("finals", "dense"), ("flags", "float32"))),
}


def settings_of(way: Way, length: int, kind: str, steps: int) -> ActorSettings:
    return ActorSettings(
        env=way.env,
        env_options={"length": length, "kind": kind, **dict(way.options)},
        envs=4,
        groups=way.groups,
        vectorization=way.vectorization,
        rollout_steps=steps,
        hidden=(),
    )


@contextlib.contextmanager
def made(settings: ActorSettings) -> Iterator[list[VectorEnv]]:
    groups = make_vector_envs(settings, HERE)
    try:
        yield groups
    finally:
        for group in groups:
            group.close()


def knowing(settings: ActorSettings, spaces: Spaces, table: np.ndarray) -> tuple[Policy, np.ndarray]:
    """A linear network whose values are those of the table, of states or of any action in them; and its parameters."""
    policy, flat = build_policy(settings, spaces, 0)
    theta = np.zeros_like(flat.vector())
    if settings.algorithm == "a3c":
        theta[-1 - len(table) : -1] = table  # the value's weights, behind which is its bias
    else:
        theta[: 2 * len(table)] = np.tile(table, 2)
    flat.load(theta)
    return policy, theta


def assert_true(
    groups: list[VectorEnv], settings: ActorSettings, waits: bool, family: tuple[dict[str, Any], ...], discount: float
) -> None:
    """Every target of every row that counts is that row's value, and rows and episodes are as many as there were."""
    length, kind = settings.env_options["length"], settings.env_options["kind"]
    assert isinstance(length, int)
    assert isinstance(kind, str)
    table, spaces = rings.values(length, kind, discount), groups[0].spaces
    several = [msgspec.structs.replace(settings, discount=discount, **more) for more in family]
    policy, theta = knowing(several[0], spaces, table)
    methods = [make_method(one, spaces, policy, 0) for one in several]
    for method in methods:
        method.adopt(0, None if several[0].algorithm == "a3c" else theta, 0)
    collector = Collector(groups, policy, methods[0].sampler, several[0], 3)
    counted, episodes, count = 0, list[tuple[float, int]](), 2 + 8 // settings.rollout_steps
    for _ in range(count):
        rollout = collector.collect()
        true = table[rollout.observations[:-1].argmax(2)]
        for method in methods:
            returns, policy_targets, _ = method.targets(rollout)
            np.testing.assert_allclose(returns[rollout.valid], true[rollout.valid], atol=2e-5)
            assert (policy_targets is not None) == (several[0].algorithm == "a3c")
            if policy_targets is not None:
                np.testing.assert_allclose(policy_targets.advantages[rollout.valid], 0.0, atol=2e-5)
        counted += rollout.env_steps
        episodes += rollout.episodes
    each, rest = divmod(count * settings.rollout_steps, length + waits)
    assert counted == 4 * (each * length + min(rest, length))
    assert len(episodes) == 4 * (each + (rest >= length))
    assert {taken for _, taken in episodes} == {length}


@pytest.mark.parametrize(("length", "steps"), [(1, 1), (4, 1), (1, 4), (4, 4)])
@pytest.mark.parametrize("kind", ["terminated", "truncated", "both"])
@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
def test_targets_are_the_true_values(way: Way, kind: str, length: int, steps: int) -> None:
    settings = settings_of(way, length, kind, steps)
    with made(settings) as groups:
        for family in FAMILIES:
            for discount in (0.0, 0.9, 1.0) if steps == length == 4 else (0.9,):
                assert_true(groups, settings, way.waits, family, discount)


@pytest.mark.parametrize("kind", ["terminated", "truncated"])
def test_targets_are_the_true_values_of_processes(kind: str) -> None:
    way = Way(vectorization="processes")
    settings = settings_of(way, 3, kind, 4)
    with made(settings) as groups:
        for family in FAMILIES:
            assert_true(groups, settings, way.waits, family, 0.9)


def test_the_values_are_those_of_the_plain_sum() -> None:
    for discount in (0.0, 0.5, 0.9, 1.0):
        table = rings.values(2, "truncated", discount)
        np.testing.assert_allclose(table[:5], rings.REWARDS + discount * np.roll(table[:5], -1), atol=1e-6)
    assert rings.values(2, "both", 0.5)[10:].tolist() == pytest.approx([0.05, 0.2, 0.35, 0.0, -0.6])


def test_a_vector_that_keeps_its_last_observations_is_refused_by_name() -> None:
    """Where an episode was truncated; what follows a terminal state counts for nothing."""
    way = Way(VECTOR, 1, (("mode", "same"), ("finals", "none")))
    for kind in ("truncated", "terminated"):
        settings = settings_of(way, 3, kind, 4)
        refused = pytest.raises(
            ContractViolation, match=r"RingVector-v0: it resets in the same step .* no final_obs of row 0, whose"
        )
        with made(settings) as groups, refused if kind == "truncated" else contextlib.nullcontext():
            assert_true(groups, settings, way.waits, FAMILIES[0], 0.9)


def test_a_vector_of_another_size_than_asked_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = rings.RingVector.__init__
    monkeypatch.setattr(rings.RingVector, "__init__", lambda self, num_envs, **options: begin(self, 3, **options))
    with pytest.raises(SettingError, match="asked for 4 environments it makes 3"):
        make_vector_envs(settings_of(WAYS["next"], 3, "both", 4), HERE)
