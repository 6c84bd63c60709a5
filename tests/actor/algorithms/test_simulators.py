"""An actor's simulators as its share changes: what is made anew, what goes on, and what is remembered of those before.

Simulators are Counters, whose every number is known. Shares are looked for by the portions that they mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from actor.algorithms import simulators as module
from actor.algorithms.distributions import distribution
from actor.algorithms.portion import BAND, Portion, first, portion, whole
from actor.algorithms.simulators import Simulators, with_portion
from actor.config import ActorSettings
from actor.environments.vector import VectorEnv
from actor.monitoring import log
from actor.networks.build import build_policy
from actor.spaces import resolved
from protocol.errors import UserError
from protocol.moments import Moments
from tests.actor.counter import NONE_ALLOWED, counters, discrete, vectors

COUNTED = discrete(4)
SETTINGS = resolved(ActorSettings(envs=16, rollout_steps=64, hidden=(4,)), vectors(2, COUNTED))
ALL = whole(SETTINGS)
SHARES = [n / 400 for n in range(1, 401)]


def share_of(fits: Callable[[Portion], bool], settings: ActorSettings = SETTINGS) -> float:
    """The largest of those whose portion is like that."""
    return max(share for share in SHARES if fits(portion(settings, share)))


SHORTER = share_of(lambda found: found.envs == ALL.envs and found.rollout_steps < ALL.rollout_steps)
FEWER = share_of(lambda found: found.envs <= ALL.envs // 4)
FEWEST = share_of(lambda found: found.envs == portion(SETTINGS, SHARES[0]).envs)


class Group(VectorEnv):
    """Counters that remember how they were begun, and that they were ended."""

    def __init__(self, inner: VectorEnv) -> None:
        vars(self).update(vars(inner))
        self.seeds: list[int] = []
        self.closed = 0

    def reset(self, seed: int) -> np.ndarray:
        self.seeds.append(seed)
        return super().reset(seed)

    def close(self) -> None:
        self.closed += 1
        super().close()


class Factory:
    """Stands in for the registry. made: the groups of each time it was asked. fails: what it raises instead."""

    def __init__(self) -> None:
        self.made: list[list[Group]] = []
        self.fails: Exception | None = None

    def __call__(self, settings: ActorSettings, allowed_modules: frozenset[str], **options: Any) -> list[Group]:
        if self.fails is not None:
            raise self.fails
        count = settings.envs // settings.groups
        lengths = [5 + number % 7 for number in range(count)]
        self.made.append([Group(counters(AutoresetMode.SAME_STEP, *lengths)) for _ in range(settings.groups)])
        return self.made[-1]

    @property
    def open(self) -> int:
        """How many that were asked for have not ended."""
        return sum(all(not group.closed for group in groups) for groups in self.made)

    @property
    def seeds(self) -> list[list[int]]:
        return [[seed for group in groups for seed in group.seeds] for groups in self.made]


@pytest.fixture
def factory(monkeypatch: pytest.MonkeyPatch) -> Factory:
    made = Factory()
    monkeypatch.setattr(module, "make_vector_envs", made)
    return made


def begun(settings: ActorSettings = SETTINGS, seed: int = 5) -> Simulators:
    """Before its first rollout."""
    found = Simulators(settings, NONE_ALLOWED, 1.0, seed)
    policy, _ = build_policy(settings, vectors(2, COUNTED), seed=0)
    found.begin(policy, distribution(COUNTED))
    return found


def under_way(settings: ActorSettings = SETTINGS, seed: int = 5) -> Simulators:
    """After its first rollout, with a share that is all."""
    found = begun(settings, seed)
    found.collect()
    found.heed(1.0)
    return found


def replaced(**fields: Any) -> ActorSettings:
    return msgspec.structs.replace(SETTINGS, **fields)


def shape(simulators: Simulators) -> tuple[int, int]:
    """T and B of the next rollout."""
    steps, envs = simulators.collect().rewards.shape
    return steps, envs


def test_the_shares_mean_what_these_tests_use_them_for() -> None:
    assert FEWEST < FEWER < SHORTER < 1.0


def test_the_first_rollout_is_short_whatever_share_was_told(factory: Factory) -> None:
    simulators = begun()
    least = first(SETTINGS)
    assert not simulators.heed(FEWER)
    assert simulators.portion == least
    assert shape(simulators) == (least.rollout_steps, least.envs)
    assert least.rollout_steps < SETTINGS.rollout_steps
    assert len(factory.made) == 1


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_who_is_alone_or_told_nothing_follows_the_settings_from_the_second_rollout_on(
    share: float, factory: Factory
) -> None:
    simulators = begun()
    last = simulators.collect().observations[-1].copy()
    assert simulators.heed(share)
    assert (simulators.portion, simulators.sized) == (ALL, SETTINGS)
    rollout = simulators.collect()
    assert rollout.rewards.shape == (SETTINGS.rollout_steps, SETTINGS.envs)
    np.testing.assert_array_equal(rollout.observations[0], last)
    assert not simulators.heed(share)


def test_a_smaller_share_is_fewer_environments_and_a_larger_one_brings_them_back(factory: Factory) -> None:
    simulators = under_way()
    for share in (FEWER, FEWEST, SHORTER, 1.0, FEWEST):
        assert simulators.heed(share)
        found = portion(SETTINGS, share)
        assert simulators.portion == found
        assert shape(simulators) == (found.rollout_steps, found.envs)
        assert simulators.sized == replaced(envs=found.envs, rollout_steps=found.rollout_steps)
        assert factory.open == 1
    simulators.close()
    assert factory.open == 0
    assert [group.closed for groups in factory.made for group in groups] == [1] * len(factory.made)


def test_as_many_environments_go_on_in_the_middle_of_their_episodes(factory: Factory) -> None:
    simulators = under_way()
    last = simulators.collect().observations[-1].copy()
    assert simulators.heed(SHORTER)
    rollout = simulators.collect()
    np.testing.assert_array_equal(rollout.observations[0], last)
    assert not rollout.starts[0].all()
    assert len(factory.made) == 1
    assert factory.seeds == [[5]]


def test_other_environments_begin_new_episodes_from_seeds_of_their_own(factory: Factory) -> None:
    simulators = under_way()
    for share in (FEWER, 1.0, FEWER):
        simulators.heed(share)
        assert simulators.collect().starts[0].all()
    (one,), (two,), (three,), (four,) = factory.seeds
    assert one == 5
    assert len({one, two, three, four}) == 4
    again, other = under_way(), under_way(seed=6)
    again.heed(FEWER)
    other.heed(FEWER)
    assert factory.seeds[4:] == [[5], [6], [two], factory.seeds[-1]]
    assert factory.seeds[-1] != [two]


def test_a_share_that_wavers_changes_nothing(factory: Factory) -> None:
    simulators = under_way()
    simulators.heed(FEWER)
    held = simulators.portion
    for factor in (BAND, 1 / BAND, BAND, 1.0, 1 / BAND):
        assert not simulators.heed(FEWER * factor**0.99)
        assert simulators.portion is held
    assert len(factory.made) == 2


def test_a_share_that_goes_on_in_small_steps_is_followed(factory: Factory) -> None:
    simulators = under_way()
    share = 1.0
    while share > FEWEST:
        share /= BAND**0.3
        simulators.heed(share)
    assert simulators.portion.envs <= 2 * portion(SETTINGS, share).envs
    assert 2 < len(factory.made) < 8


def test_a_share_that_means_the_same_portion_is_heeded_without_a_change(factory: Factory) -> None:
    simulators = under_way()
    assert not simulators.heed(0.5)
    assert not simulators.heed(1.0)
    assert len(factory.made) == 1


def test_failures_of_simulators_that_are_gone_are_remembered(factory: Factory) -> None:
    simulators = under_way()
    assert (simulators.failures, simulators.first_failures) == ({}, {})
    for share, detail in ((FEWER, "one"), (1.0, "two"), (FEWER, "three")):
        engine: Any = factory.made[-1][0].engine
        engine.failure_counts["raised"] += 2
        engine.first_failures.setdefault("raised", detail)
        simulators.heed(share)
    engine = factory.made[-1][0].engine
    engine.failure_counts["hung"] += 1
    engine.first_failures["hung"] = "four"
    for _ in range(2):
        assert simulators.failures == {"raised": 6, "hung": 1}
        assert simulators.first_failures == {"raised": "one", "hung": "four"}


def test_failures_of_all_groups_are_told_and_the_first_of_the_first(factory: Factory) -> None:
    simulators = under_way(replaced(groups=2))
    for group, detail in zip(factory.made[0], ("one", "two"), strict=True):
        engine: Any = group.engine
        engine.failure_counts["raised"] += 1
        engine.first_failures["raised"] = detail
    assert (simulators.failures, simulators.first_failures) == ({"raised": 2}, {"raised": "one"})


def test_statistics_are_kept(factory: Factory) -> None:
    settings = replaced(normalize_observations=True, normalize_returns=True)
    simulators = under_way(settings)
    simulators.normalize(Moments(100, np.array([0.5, 1.0, 7.0]), np.array([400.0, 100.0, 1600.0])))
    for share in (FEWER, SHORTER):
        simulators.heed(share)
        normalizer = simulators.collector.normalizer
        assert normalizer is not None
        np.testing.assert_allclose(normalizer.mean, [0.5, 1.0])
        np.testing.assert_allclose(normalizer.scale, [0.5, 1.0], rtol=1e-6)
        assert simulators.collector.return_scale == pytest.approx(0.25)
    np.testing.assert_array_equal(simulators.collect().observations[0], np.tile([-0.25, -1.0], (16, 1)))


def test_rollouts_of_other_units_or_other_environments_are_not_learnt_from_again(factory: Factory) -> None:
    settings = replaced(normalize_observations=True, normalize_returns=True, passes=6)
    simulators = under_way(settings)

    def older() -> int:
        return simulators.recent(simulators.collect(), 1, 0).older

    assert [older(), older()] == [0, 0]  # all that the settings say: each is learnt from alone
    simulators.heed(FEWEST)
    steps = simulators.portion.rollout_steps
    assert [older(), older()] == [0, steps]
    moments = Moments(100, np.array([0.5, 1.0, 7.0]), np.array([400.0, 100.0, 1600.0]))
    simulators.normalize(moments)
    assert [older(), older()] == [0, steps]
    simulators.normalize(Moments(101, moments.mean, moments.m2))
    assert older() >= steps
    simulators.normalize(Moments(101, moments.mean, 9.0 * moments.m2))
    assert [older(), older()] == [0, steps]
    simulators.forget()
    assert older() == 0
    simulators.heed(1.0)
    simulators.heed(FEWEST)
    assert [older(), older()] == [0, steps]


def test_groups_stay_where_they_divide_the_environments(factory: Factory) -> None:
    simulators = under_way(replaced(groups=2))
    simulators.heed(FEWER)
    assert [group.count for group in factory.made[-1]] == [portion(SETTINGS, FEWER).envs // 2] * 2
    assert simulators.collect().rewards.shape[1] == portion(SETTINGS, FEWER).envs
    odd = replaced(envs=12, groups=3)
    assert with_portion(odd, Portion(8, 16, 2, 8)) == replaced(envs=8, groups=1, rollout_steps=16)
    assert with_portion(odd, Portion(6, 16, 2, 8)).groups == 3
    assert with_portion(odd, Portion(1, 16, 2, 8)).groups == 1


def test_remaking_that_fails_leaves_nothing_open(factory: Factory) -> None:
    simulators = under_way(replaced(groups=2))
    engine: Any = factory.made[0][1].engine
    engine.failure_counts["died"] += 1
    factory.fails = RuntimeError("no more processes")
    with pytest.raises(RuntimeError, match="no more processes"):
        simulators.heed(FEWER)
    assert factory.open == 0
    assert simulators.failures == {"died": 1}
    simulators.close()
    assert [group.closed for group in factory.made[0]] == [1, 1]


def test_simulators_that_cannot_begin_are_ended_with_the_rest(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulators = under_way(replaced(groups=2))

    def reset(group: Group, seed: int) -> np.ndarray:
        raise RuntimeError("stuck")

    monkeypatch.setattr(Group, "reset", reset)
    with pytest.raises(RuntimeError, match="stuck"):
        simulators.heed(FEWER)
    simulators.close()
    assert factory.open == 0
    assert len(factory.made) == 2


def test_real_simulators_end_to_end() -> None:
    settings = ActorSettings(envs=8, rollout_steps=64, groups=2, vectorization="sync", hidden=(4,))
    simulators = Simulators(settings, NONE_ALLOWED, 1.0, 3)
    policy, _ = build_policy(settings, simulators.spaces, seed=0)
    simulators.begin(policy, distribution(simulators.spaces.actions))
    for share in (1.0, 1.0, 0.1, 0.3, 1.0):
        simulators.heed(share)
        rollout = simulators.collect()
        assert rollout.rewards.shape == (simulators.portion.rollout_steps, simulators.portion.envs)
        assert np.isfinite(rollout.observations).all()
        assert rollout.rewards.sum() == rollout.env_steps  # CartPole pays 1 a step
    simulators.close()


def test_a_line_says_what_is_collected_from_now_on(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[Any] = []
    monkeypatch.setattr(log, "write", lines.append)
    simulators = under_way()
    lines.clear()
    for share in (SHORTER, FEWER):  # rollouts alone; environments too
        simulators.heed(share)
        held = simulators.portion
        sizes = {"envs": held.envs, "rollout_steps": held.rollout_steps}
        assert lines.pop() == {"event": "portion_changed", "share": share, **sizes}
        assert lines == []


def with_settings(simulators: Simulators, **fields: Any) -> ActorSettings:
    """Other settings from the next rollout on."""
    settings = replaced(**fields)
    simulators.change(settings, distribution(COUNTED))
    return settings


@pytest.mark.parametrize("fields", [{"env": "Other-v0"}, {"env_options": {"n": 1}}, {"wrappers": ("a:B",)}])
def test_settings_that_make_other_environments_make_them_anew(factory: Factory, fields: dict[str, Any]) -> None:
    simulators = under_way()
    simulators.heed(SHORTER)
    held = simulators.portion
    settings = with_settings(simulators, **fields)
    assert [group.closed for group in factory.made[0]] == [1]
    assert (len(factory.made), factory.open, simulators.portion) == (2, 1, held)
    assert simulators.sized == with_portion(settings, held)
    assert simulators.collect().starts[0].all()
    assert factory.seeds[0] != factory.seeds[1]


def test_other_settings_go_on_in_the_middle_of_episodes_with_rewards_as_they_say(factory: Factory) -> None:
    simulators = under_way(replaced(normalize_returns=False))
    last, paid = simulators.collect().observations[-1].copy(), simulators.collect
    assert paid().rewards.max() == 3.0
    last = simulators.collect().observations[-1].copy()
    with_settings(simulators, normalize_returns=False, reward_scale=0.5, passes=3)
    rollout = simulators.collect()
    np.testing.assert_array_equal(rollout.observations[0], last)
    assert rollout.rewards.max() == 1.5
    assert simulators.portion == whole(replaced(passes=3))
    assert len(factory.made) == 1


def test_a_change_before_the_first_rollout_leaves_it_short(factory: Factory) -> None:
    simulators = begun()
    settings = with_settings(simulators, passes=3)
    assert simulators.portion == first(settings)


def test_what_was_seen_stays_seen_whatever_it_earns(factory: Factory) -> None:
    simulators = under_way(replaced(normalize_returns=False, reward_scale=1e-6))
    plain = simulators.collect().rewards.max()
    with_settings(simulators, normalize_returns=False, reward_scale=1e-6, novelty_weight=1.0)
    new = simulators.collect().rewards.max()
    with_settings(simulators, normalize_returns=False, reward_scale=1e-6, novelty_weight=2.0)
    seen = simulators.collect().rewards.max()
    assert plain < 1e-5 < seen < 1.0 < new + 0.5
    with_settings(simulators, normalize_returns=False, reward_scale=1e-6)
    assert simulators.collect().rewards.max() < 1e-5


def test_nothing_older_than_a_change_is_learnt_from(factory: Factory) -> None:
    simulators = under_way()
    simulators.heed(FEWEST)
    rows = [len(simulators.recent(simulators.collect(), 1, 0).valid) for _ in range(2)]
    assert rows[1] > rows[0]
    with_settings(simulators, clip=0.1)
    assert len(simulators.recent(simulators.collect(), 1, 0).valid) == rows[0]


def test_environments_of_another_shape_are_refused(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    simulators = under_way()

    def others(settings: ActorSettings, allowed_modules: frozenset[str], **_: object) -> list[Group]:
        (made,) = factory(settings, allowed_modules)
        made.spaces = vectors(3, COUNTED)
        return [made]

    monkeypatch.setattr(module, "make_vector_envs", others)
    with pytest.raises(UserError, match=r"Other-v0, made again for this stage of .*, is another: its obs.* is"):
        with_settings(simulators, env="Other-v0")
    simulators.close()
    assert factory.open == 0
