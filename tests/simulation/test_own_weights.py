"""Worlds with local steps: what they come to when all is settled, and that each promise about them can be broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from actor.algorithms.local_steps import LocalSteps
from actor.handoff import WorkerChannel
from learner.optim.parameters import Parameters
from protocol.codecs.registry import CODECS
from protocol.transport.memory import Faults
from tests.simulation.own_weights import OwnWeights
from tests.simulation.world import Broken, Plot, World, bad

CALM = Plot(actors=3, faults=Faults(delay_s=0.01), settings={"staleness_rule": "none"}, local_steps=4, work_s=0.1)
BAD = Plot(
    actors=3,
    faults=Faults(delay_s=0.02, jitter_s=0.3, loss=0.02, duplicate=0.05, reorder=0.1),
    settings={
        "credit": 2,
        "credit_lag": 2,
        "max_lag_updates": 4,
        "silence_s": 2.0,
        "publish_interval_s": 1.0,
        "staleness_rule": "none",
    },
    local_steps=4,
    work_s=0.1,
    partition_rate=0.1,
    actor_kill_rate=0.02,
    actor_leave_rate=0.02,
    learner_kill_rate=0.05,
    pause_rate=0.05,
)


def settle(world: World) -> None:
    world.calm(30.0)
    world.check_alive()
    world.rest()
    world.check_rested()
    world.check_history()


@pytest.mark.parametrize(
    ("codec", "durability"), [(codec, ("checkpoint", "journal")[len(codec) % 2]) for codec in sorted(CODECS)]
)
def test_once_all_is_settled_actors_use_the_weights_of_the_stream(codec: str, durability: str) -> None:
    world = World(1, replace(BAD, codec=codec, settings={**BAD.settings, "durability": durability}))
    world.run(800)
    world.kill_learner()
    settle(world)
    assert len(world.settled()) == 3
    assert world.epoch > 1


@pytest.mark.parametrize("local_steps", range(2, 9))
def test_every_update_is_in_theta_once(local_steps: int) -> None:
    """Small dyadic numbers, so that float64 has no excuse."""
    world = World(2, replace(CALM, local_steps=local_steps))
    world.run_for(30.0)
    settle(world)
    computed = sum((actor.computed for actor in world.actors), np.zeros(len(world.parameters.theta)))
    assert np.abs(computed).max() > 1.0
    np.testing.assert_array_equal(world.parameters.theta, -world.settings.learning_rate * computed)
    steps = world.state.progress.env_steps
    messages = world.state.progress.lags.count
    assert 4 * messages < steps <= 4 * local_steps * messages


def test_an_optimizer_at_the_learner_makes_each_gradient_a_message() -> None:
    world = World(3, replace(CALM, settings={"optimizer": "adam"}))
    world.run_for(5.0)
    assert [actor.own for actor in world.actors] == [None] * 3
    assert world.state.progress.env_steps == 4 * world.state.progress.lags.count > 0


def test_half_of_the_bad_worlds_take_local_steps_with_every_codec_and_length() -> None:
    plots = [plot for plot in map(bad, range(300)) if plot.steps_locally]
    assert 120 < len(plots) < 180
    assert {plot.codec for plot in plots} >= CODECS.keys() - {"f32"}
    assert {plot.local_steps for plot in plots} == {2, 3, 5, 8}
    assert {plot.settings["durability"] for plot in plots} == {"checkpoint", "journal"}


# faults that are planted, and the promise that each must break


def keeps_what_was_refused(local: LocalSteps, decoded: Any, version: int | None, real: Callable[..., None]) -> None:
    if version is not None:
        real(local, decoded, version)


def forgets_what_is_not_shown_yet(
    local: LocalSteps, decoded: Any, version: int | None, real: Callable[..., None]
) -> None:
    real(local, decoded, None)


def follows_too_late(local: LocalSteps, version: int, real: Callable[..., None]) -> None:
    real(local, version - 1)


def follows_too_early(local: LocalSteps, version: int, real: Callable[..., None]) -> None:
    real(local, version + 1)


def survives_the_learner(local: LocalSteps, real: Callable[..., None]) -> None:
    pass


def takes_nothing_off(local: LocalSteps, real: Callable[..., Any]) -> Any:
    taken = real(local)
    local.add(taken.copy(), 1.0, np.zeros_like(taken))
    local.steps = 0
    return taken


def sends_half(local: LocalSteps, real: Callable[..., Any]) -> Any:
    return real(local) / np.float32(2.0)


def is_off_by_one_bit(local: LocalSteps, theta: np.ndarray, held: np.ndarray, real: Callable[..., None]) -> None:
    real(local, theta, held)
    theta[0] = np.nextafter(theta[0], np.float32(np.inf))


def forgets_what_is_held_back(
    local: LocalSteps, theta: np.ndarray, held: np.ndarray, real: Callable[..., None]
) -> None:
    real(local, theta, np.zeros_like(held))


def counts_every_other(
    local: LocalSteps, update: np.ndarray, share: float, theta: np.ndarray, real: Callable[..., None]
) -> None:
    steps = local.steps
    real(local, update, share, theta)
    local.steps = steps + (steps == 0)


def knows_the_first_rate(local: LocalSteps, length: int, rate: float, real: Callable[..., None]) -> None:
    real(local, length, 2.0**-6)


def hears_of_verdicts_later(own: OwnWeights, channel: WorkerChannel, real: Callable[..., None]) -> None:
    if own.weights is None:
        real(own, channel)


def never_loads_again(own: OwnWeights, real: Callable[..., None]) -> None:
    if not own.theta.any():
        real(own)
    elif own.weights is not None:
        own.local.followed(own.weights.version)  # all that it knows is right, but not what it uses


def keeps_its_first_weights(own: OwnWeights, weights: Any, real: Callable[..., None]) -> None:
    if own.weights is None or weights.epoch != own.weights.epoch:
        real(own, weights)


def applies_twice(parameters: Parameters, jobs: Any, rate: float, real: Callable[..., Any]) -> Any:
    return real(parameters, jobs, 2.0 * rate)


BEYOND, BITS = "beyond the stream it is off by", "nothing is beyond the stream"
PLANTED: list[tuple[type, str, Callable[..., Any], str, str]] = [
    (LocalSteps, "__init__", knows_the_first_rate, BEYOND, "f32"),
    (LocalSteps, "settled", keeps_what_was_refused, BEYOND, "f32"),
    (LocalSteps, "settled", forgets_what_is_not_shown_yet, BEYOND, "f32"),
    (LocalSteps, "followed", follows_too_late, BEYOND, "f32"),
    (LocalSteps, "followed", follows_too_early, BEYOND, "topk_i8"),
    (LocalSteps, "restart", survives_the_learner, BEYOND, "i8"),
    (LocalSteps, "take", takes_nothing_off, BEYOND, "f32"),
    (LocalSteps, "take", sends_half, "the residual is off by", "topk_i8"),
    (LocalSteps, "subtract_from", is_off_by_one_bit, BITS, "f32+zstd"),
    (LocalSteps, "subtract_from", forgets_what_is_held_back, BEYOND, "topk_i8"),
    (LocalSteps, "add", counts_every_other, "updates wait for a message", "f32"),
    (OwnWeights, "refresh", hears_of_verdicts_later, "messages' worth is beyond the stream", "f32"),
    (OwnWeights, "load", never_loads_again, "it uses other weights", "f32"),
    (OwnWeights, "_adopt", keeps_its_first_weights, "messages were applied, and its weights do not show", "f32"),
    (Parameters, "apply", applies_twice, "moved θ by something else", "f32"),
]


@pytest.mark.parametrize(
    ("owner", "name", "fault", "broken", "codec"), PLANTED, ids=[fault.__name__ for _, _, fault, _, _ in PLANTED]
)
def test_a_planted_fault_breaks_its_promise(
    owner: type, name: str, fault: Callable[..., Any], broken: str, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *given: fault(*given, real))
    world = World(4, replace(BAD, codec=codec, settings={**BAD.settings, "max_lag_updates": 40}))
    with pytest.raises(Broken, match=broken):
        world.run(4000)
