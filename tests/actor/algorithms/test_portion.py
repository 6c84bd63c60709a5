"""How much one actor of a fleet collects: what it does alone, and less the less of the run is its own."""

from __future__ import annotations

import math
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from actor.algorithms.portion import (
    AGE,
    BAND,
    FAR_PART,
    FEWEST_ROWS,
    HORIZONS,
    LEAST_ROWS,
    LONE,
    POWER,
    Portion,
    differs,
    first,
    portion,
    whole,
)
from actor.config import ActorSettings, read_settings

EXPERIMENTS = Path(__file__).parents[3] / "deploy" / "experiments"
SHIPPED = {
    path.stem: read_settings(msgspec.msgpack.encode(tomllib.loads(path.read_text())["actor"]))
    for path in sorted(EXPERIMENTS.glob("*.toml"))
}
PLAIN = ActorSettings(envs=16, rollout_steps=128, minibatches=8, passes=4)
GRID = [n / 200 for n in range(1, 201)]

TABLES: dict[str, dict[str, Any]] = {
    "gae": {},
    "vtrace": {"targets": "vtrace", "kl_target": 0.01},
    "once": {"passes": 1, "kl_target": 0.01},
    "n_step": {"targets": "n_step"},
    "n_step_q": {"algorithm": "n_step_q"},
    "one_step_q": {"algorithm": "one_step_q"},
    "lstm": {"memory": "lstm"},
    "gru once": {"memory": "gru", "passes": 1, "kl_target": 0.01},
}
KEEPING = ("n_step", "n_step_q", "lstm", "gru once")


@st.composite
def tables(draw: st.DrawFn) -> ActorSettings:
    """Settings that ``read_settings`` takes."""
    table = TABLES[draw(st.sampled_from(sorted(TABLES)))]
    envs, steps = draw(st.integers(1, 128)), draw(st.one_of(st.integers(1, 3), st.integers(1, 512)))
    most = min(envs, 32) if "memory" in table else 32
    count = draw(st.integers(1, most))
    assume(count > 1 or "kl_target" not in table)
    return read_settings(msgspec.msgpack.encode({**table, "envs": envs, "rollout_steps": steps, "minibatches": count}))


SHARES = st.floats(0.0, 1.0)


def rows(found: Portion | ActorSettings) -> int:
    return found.envs * found.rollout_steps


def keeps_length(settings: ActorSettings) -> bool:
    return settings.targets == "n_step" or settings.algorithm == "n_step_q" or settings.memory != "none"


def replaced(**fields: Any) -> ActorSettings:
    return msgspec.structs.replace(PLAIN, **fields)


def corrects(settings: ActorSettings) -> bool:
    """Whether gradients are drawn from several rollouts."""
    return settings.algorithm == "a3c" and settings.targets == "gae" and settings.memory == "none"


def drawn(found: Portion) -> int:
    """Samples that a pass is over, at least."""
    return rows(found) * found.least_rollouts


def least_rows(settings: ActorSettings, share: float = 1 / 16) -> int:
    """Samples below which no rollout is cut."""
    if corrects(settings):
        return max(FEWEST_ROWS, min(LEAST_ROWS, round(LEAST_ROWS * math.sqrt(16 * share))))
    if settings.algorithm != "a3c":
        return LEAST_ROWS
    ahead = math.ceil(HORIZONS / max(1e-6, 1 - settings.discount * settings.gae_lambda))
    return max(LEAST_ROWS, min(ahead, math.ceil(rows(settings) * FAR_PART)))


@given(tables(), st.one_of(st.sampled_from([0.0, LONE]), st.floats(LONE, 1.0)))
def test_one_actor_two_of_equal_speed_and_those_who_are_told_nothing_follow_the_settings(
    settings: ActorSettings, share: float
) -> None:
    gradients = settings.passes * settings.minibatches
    expected = Portion(settings.envs, settings.rollout_steps, settings.minibatches, gradients)
    assert portion(settings, share) == portion(settings, 0.5) == whole(settings) == expected


@given(tables(), SHARES)
def test_nobody_collects_more_than_the_settings_say_or_less_than_one_step(
    settings: ActorSettings, share: float
) -> None:
    for found in (portion(settings, share), first(settings)):
        assert 1 <= found.envs <= settings.envs
        assert 1 <= found.rollout_steps <= settings.rollout_steps
        assert 1 <= found.minibatches <= settings.minibatches
        assert 0.0 < found.length <= 1.0
        assert rows(found) >= min(rows(settings), FEWEST_ROWS if corrects(settings) else LEAST_ROWS) / 2
        assert 1 <= found.gradients <= settings.passes * settings.minibatches


@given(tables(), st.floats(0.0, LONE, exclude_min=True, exclude_max=True))
def test_what_is_collected_falls_with_the_share_as_far_as_the_least(settings: ActorSettings, share: float) -> None:
    """To half an environment's rollouts, or where a rollout keeps its length to the nearest power of two."""
    found = portion(settings, share)
    wanted = max(min(least_rows(settings, share), rows(settings)), share * rows(settings))
    if keeps_length(settings):
        assume(found.envs > 2)
        assert wanted / 1.5 <= rows(found) <= wanted * 1.5
    elif settings.rollout_steps > 1:  # of which there are fewer
        whole_length = found.rollout_steps == settings.rollout_steps
        assert abs(rows(found) - wanted) <= found.envs / 2 or (whole_length and wanted / 1.5 <= rows(found) <= wanted)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_fleet_of_any_size_collects_together_about_what_one_actor_does(name: str) -> None:
    """Up to the most actors of which each has more than the least."""
    settings = SHIPPED[name]
    for actors in range(3, rows(settings) // least_rows(settings) + 1):
        together = actors * rows(portion(settings, 1 / actors))
        assert rows(settings) / 1.5 < together < 1.5 * rows(settings)


@pytest.mark.parametrize("changes", TABLES.values(), ids=TABLES)
def test_a_larger_share_is_never_fewer_environments_or_gradients_nor_notably_less_data(changes: dict[str, Any]) -> None:
    settings = replaced(**changes)
    for less, more in pairwise(portion(settings, share) for share in GRID):
        assert less.envs <= more.envs
        assert less.minibatches <= more.minibatches
        assert rows(less) <= rows(more) + more.envs / 2
    least, most = portion(settings, GRID[0]), portion(settings, GRID[-1])
    assert rows(least) < rows(most) / 4


@given(tables(), SHARES)
def test_a_gradient_is_of_about_as_many_samples_and_the_updates_of_smaller_ones_are_shorter(
    settings: ActorSettings, share: float
) -> None:
    for found in (portion(settings, share), first(settings)):
        size = drawn(found) / found.minibatches / (rows(settings) / settings.minibatches)
        assert size <= 1.5
        assert found.length == pytest.approx(min(1.0, size) ** POWER)
        fewest = 2 if settings.kl_target else 1
        assert size >= 0.75 or found.minibatches <= fewest


@given(tables(), SHARES)
def test_each_sample_is_used_as_often_as_the_settings_say(settings: ActorSettings, share: float) -> None:
    """As nearly as whole gradients can: each rollout brings its own part of a pass over all that is learnt from."""
    for found in (whole(settings), portion(settings, share), first(settings)):
        assert found.parts(drawn(found)) == found.minibatches
        assert found.parts(3 * drawn(found)) == 3 * found.minibatches
        wanted = settings.passes * found.minibatches / found.least_rollouts
        fewest = min(2, found.minibatches) if settings.kl_target else 1
        assert wanted <= found.gradients < wanted + 1 or found.gradients == fewest


@given(tables(), SHARES)
def test_updates_of_too_few_samples_are_shorter_until_there_are_enough(settings: ActorSettings, share: float) -> None:
    for found in (whole(settings), portion(settings, share), first(settings)):
        assert found.fullness(drawn(found)) == found.fullness(2 * drawn(found)) == 1.0
        assert found.fullness(rows(found)) == pytest.approx((1 / found.least_rollouts) ** POWER)
        assert 1 <= found.parts(1) <= found.minibatches


@given(tables(), SHARES)
def test_what_cannot_be_corrected_for_is_learnt_from_alone(settings: ActorSettings, share: float) -> None:
    """Older policies' samples are used where the ratio corrects for them, and where updates are added."""
    for found in (whole(settings), first(settings), portion(settings, share, adds=False)):
        assert (found.least_rollouts, found.most_rollouts) == (1, 1)
    found = portion(settings, share)
    if corrects(settings) and 0.0 < share < LONE:
        assert found.most_age == AGE * rows(settings)
        assert drawn(found) >= min(rows(settings), LEAST_ROWS) / 1.5
        assert found.least_rollouts <= found.most_rollouts <= max(found.least_rollouts, settings.passes)
    else:
        assert (found.least_rollouts, found.most_rollouts) == (1, 1)


@given(tables(), SHARES)
def test_returns_that_reach_to_a_rollouts_end_and_memories_keep_its_length(
    settings: ActorSettings, share: float
) -> None:
    assume(keeps_length(settings))
    for found in (portion(settings, share), first(settings)):
        assert found.rollout_steps == settings.rollout_steps


@pytest.mark.parametrize("name", TABLES)
def test_all_others_have_shorter_rollouts_too(name: str) -> None:
    found = portion(replaced(**TABLES[name]), 1 / 16)
    assert found.envs < PLAIN.envs
    assert (found.rollout_steps < PLAIN.rollout_steps) is (name not in KEEPING)


def test_plain_targets_of_an_action_value_method_are_no_returns_to_the_end() -> None:
    """``targets`` is read by actor-critics alone."""
    settings = replaced(algorithm="one_step_q", targets="n_step")
    assert portion(settings, 1 / 16).rollout_steps < PLAIN.rollout_steps


@pytest.mark.parametrize("changes", TABLES.values(), ids=TABLES)
def test_with_a_memory_each_minibatch_has_a_sequence(changes: dict[str, Any]) -> None:
    settings = replaced(**changes)
    for found in (first(settings), *(portion(settings, share) for share in GRID)):
        assert settings.memory == "none" or found.minibatches <= found.envs


@pytest.mark.parametrize("name", ["vtrace", "once", "gru once"])
def test_a_divergence_that_is_to_be_measured_within_a_pass_has_a_second_gradient(name: str) -> None:
    """Or every rollout would seem to have moved the policy by nothing, and updates would become longer and longer."""
    settings = replaced(**TABLES[name])
    for found in (first(settings), *(portion(settings, share) for share in GRID)):
        assert found.minibatches >= 2
    between_passes = replaced(kl_target=0.01)
    assert min(portion(between_passes, share).minibatches for share in GRID) == 1


@pytest.mark.parametrize("name", SHIPPED)
def test_before_anybody_told_a_share_as_little_is_collected_as_ever(name: str) -> None:
    settings = SHIPPED[name]
    found = first(settings)
    assert found.envs == settings.envs
    assert rows(found) == rows(settings) or LEAST_ROWS <= rows(found) < LEAST_ROWS + settings.envs
    least = min(rows(portion(settings, share)) for share in GRID)
    if portion(settings, GRID[0]).rollout_steps < settings.rollout_steps:
        assert rows(found) <= max(least, LEAST_ROWS) + settings.envs


def test_shares_are_heeded_that_are_far_apart() -> None:
    assert not differs(0.5, 0.5)
    assert not differs(0.0, 0.0)
    assert differs(0.3, 0.0)
    assert differs(0.0, 0.3)
    assert differs(0.3, 0.3 * BAND * 1.01)
    assert differs(0.3 * BAND * 1.01, 0.3)
    assert not differs(0.3 * BAND * 0.99, 0.3)
