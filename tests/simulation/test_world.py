"""Whole runs of the real state machines under virtual time: calm ones, bad ones, and the same one twice."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from learner.state import Stage
from protocol.memory import Faults
from tests.simulation.world import Broken, Plot, World, bad

SEEDS = range(30)


def digest(world: World) -> tuple[str, str]:
    """Of θ, and of everything that was said and done."""
    book = hashlib.blake2b(repr(world.book).encode()).hexdigest()
    return world.parameters.digest(), book


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bad_world_breaks_no_promise_and_recovers(seed: int) -> None:
    world = World(seed, bad(seed))
    world.run(500)
    world.calm(30.0)
    world.check_alive()


def test_one_actor_in_calm_weather_loses_nothing() -> None:
    world = World(1, Plot(actors=1, faults=Faults(delay_s=0.01)))
    world.run_for(30.0)
    (actor,) = world.actors
    assert world.state.progress.rulings.keys() == {"applied"}
    assert (actor.state.lost, actor.state.refused) == (0, 0)
    assert actor.state.applied >= 50
    assert world.state.progress.env_steps == 4 * world.state.progress.lags.count


def test_fifty_actors_on_a_slow_link() -> None:
    world = World(2, Plot(actors=50, faults=Faults(delay_s=0.05, jitter_s=0.2), work_s=1.0))
    world.run(2000)
    world.calm(5.0)
    world.check_alive()
    assert len({peer.ordinal for peer in world.state.peers.values()}) == 50
    assert world.state.progress.lags.largest > 1


def test_a_partition_heals_into_the_same_session() -> None:
    world = World(3, Plot(actors=2, settings={"silence_s": 5.0}))
    world.run_for(10.0)
    sessions = set(world.state.peers)
    world.random.seed(0)
    world.partition()
    world.run_for(3.0)
    world.calm(20.0)
    world.check_alive()
    assert set(world.state.peers) == sessions


def test_a_long_partition_ends_the_session_and_another_begins() -> None:
    world = World(3, Plot(actors=1, settings={"silence_s": 2.0}))
    world.run_for(10.0)
    (before,) = world.state.peers
    world.cut.add(0)
    world.network.partition(world.actors[0].link, b"learner")
    world.run_for(10.0)
    assert world.state.peers == {}
    world.calm(20.0)
    world.check_alive()
    assert before not in world.state.peers
    assert world.state.progress.sessions_lost == 1


def test_a_lost_gradient_stalls_nobody_for_good() -> None:
    """One number's answer is missing and the window does not move: the actor waits, and goes on once it came."""
    world = World(4, Plot(actors=1, faults=Faults(loss=0.3), settings={"credit": 4, "silence_s": 8.0}))
    world.run_for(120.0)
    judged = world.state.progress.updates
    world.calm(60.0)
    world.check_alive()
    assert world.state.progress.updates > judged + 50


def test_a_learner_that_was_killed_goes_on_from_its_checkpoint() -> None:
    world = World(5, Plot(actors=3, settings={"checkpoint_interval_s": 2.0}))
    world.run_for(15.0)
    assert world.disk is not None
    world.kill_learner()
    world.run_for(10.0)
    assert world.epoch == 2
    assert world.parameters.version >= world.disk[0] > 0
    world.calm(30.0)
    world.check_alive()
    assert sum(actor.state.lost for actor in world.actors) <= 3 * world.settings.credit


def test_target_networks_follow_the_steps_of_all_actors() -> None:
    plot = Plot(actors=3, faults=Faults(delay_s=0.05, loss=0.1), settings={"target_interval_steps": 40})
    world = World(9, plot)
    world.run_for(60.0)
    world.calm(20.0)
    world.check_alive()
    steps = world.state.progress.env_steps
    assert 0.9 * steps / 40 <= len(world.targets) <= steps / 40 + 1


@pytest.mark.parametrize("optimizer", ["addition", "adam"])
def test_a_run_reaches_its_end_and_everybody_goes_home(optimizer: str) -> None:
    plot = Plot(actors=3, run={"until_steps": 200, "until_return": 1e6}, settings={"optimizer": optimizer})
    world = World(6, plot)
    world.run_for(60.0)
    assert world.exit_code == 3
    assert world.state.stage is Stage.FINISHED
    assert [actor.exit_code for actor in world.actors] == [0, 0, 0]
    assert world.disk is not None
    assert world.disk[0] == world.parameters.version


@pytest.mark.parametrize("seed", [7, 12])
def test_the_same_seed_gives_the_same_bits_twice(seed: int) -> None:
    plot = replace(bad(seed), actors=4, learner_kill_rate=0.05, partition_rate=0.1)
    first, second = World(seed, plot), World(seed, plot)
    first.run(800)
    second.run(800)
    assert digest(first) == digest(second)
    other = World(seed + 1, plot)
    other.run(800)
    assert digest(other) != digest(first)


def test_a_broken_promise_names_its_seed_and_tells_the_story() -> None:
    world = World(8, Plot(actors=1))
    world.run_for(5.0)
    world.actors[0].computed += 1.0
    with pytest.raises(Broken, match=r"seed 8, .*actor-0: the residual is off by 1\.0\n(.*\n)+"):
        world.run_for(5.0)
