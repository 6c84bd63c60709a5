"""Whole runs of the real state machines under virtual time: calm ones, bad ones, and the same one twice."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actor.handoff import WorkerChannel
from learner.admission.sessions import Sessions
from learner.admission.shares import Shares
from learner.admission.telemetry import PARTS
from learner.durability.checkpoint_schedule import CheckpointSchedule
from learner.shutdown import Stage
from protocol.transport.memory import Faults
from tests.disk import failing
from tests.simulation import regressions
from tests.simulation.history import Acked, check
from tests.simulation.regressions import Regression, keep, kept, play
from tests.simulation.world import Broken, Plot, World, bad, crowd

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
    world.check_history()


@pytest.mark.parametrize("seed", SEEDS[:8])
def test_actors_that_soon_stop_for_want_of_weights_go_on_in_the_end(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here after each gradient that weights do not show."""
    monkeypatch.setattr("actor.link.weights.LEAST_UNREFLECTED", 1)
    plot = bad(seed)
    world = World(seed, replace(plot, settings={**plot.settings, "credit_lag": 1}))
    world.run(500)
    world.calm(30.0)
    world.check_alive()
    world.check_history()


@pytest.mark.parametrize("regression", kept(), ids=lambda regression: f"{regression.seed} {regression.found}")
def test_what_was_once_broken_is_not_broken_again(regression: Regression) -> None:
    assert play(regression) is None


def test_a_regression_is_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regressions, "KEPT", tmp_path / "kept.jsonl")
    assert kept() == []
    worlds = [Regression(seed, bad(seed), 100, 10.0) for seed in range(20)]
    for world in worlds:
        keep(world, "what was found")
    assert kept() == [msgspec.structs.replace(world, found="what was found") for world in worlds]


def test_a_crowd_in_bad_weather() -> None:
    world = World(1, crowd(1, actors=150))
    world.run(8_000)
    world.calm(50.0)
    world.check_alive()
    world.check_history()
    assert len({peer.ordinal for peer in world.state.peers.values()}) == 150
    assert world.state.progress.sessions_granted > 160


def test_a_learner_with_a_journal_loses_nothing_that_it_acked() -> None:
    plot = Plot(settings={"durability": "journal", "checkpoint_interval_s": 60.0}, sync_s=0.05, power=1.0)
    world = World(5, plot)
    for _ in range(4):
        world.run_for(8.0)
        applied = world.parameters.version
        world.kill_learner()
        world.run_for(9.0)
        assert world.parameters.version >= applied - 1 > 0
    world.calm(20.0)
    world.check_alive()
    world.check_history()
    assert world.epoch == 5
    assert sum(isinstance(each, Acked) and each.durable for each in world.history) > 100


def test_a_full_disk_stops_no_training_and_is_told() -> None:
    settings = {"durability": "journal", "checkpoint_interval_s": 4.0, "on_journal_failure": "continue"}
    world = World(6, Plot(settings=settings))
    world.run_for(5.0)
    world.disk.passed = failing("journal.write", "checkpoint.write")
    before = world.parameters.version
    world.run_for(20.0)
    assert world.parameters.version > before + 20
    assert world.state.progress.faults["journal_failed"] == 1
    assert world.state.progress.faults["checkpoint_failed"] >= 2
    world.disk.passed = failing()
    world.calm(10.0)
    assert world.state.saving.journal_failure is None
    world.kill_learner()
    world.run_for(20.0)
    world.check_alive()
    world.check_history()


FAILING = Plot(
    settings={"durability": "journal", "checkpoint_interval_s": 3.0, "on_journal_failure": "stop"},
    sync_s=0.05,
    disk_fails=0.02,
    power=0.5,
    learner_kill_rate=0.05,
)


@pytest.mark.parametrize("seed", range(6))
def test_a_learner_that_stops_where_its_disk_fails_loses_nothing_that_it_acked(seed: int) -> None:
    world = World(seed, FAILING)
    world.run(1500)
    world.calm(30.0)
    world.check_alive()
    world.check_history()
    acked = [each for each in world.history if isinstance(each, Acked)]
    assert all(each.durable for each in acked)
    assert len(acked) > 50
    assert world.epoch > 2


def test_a_learner_that_went_on_and_said_nothing_would_lose_what_it_acked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes it stop is what the worlds above rest on."""
    monkeypatch.setattr(CheckpointSchedule, "record_batch", lambda *_: [])
    monkeypatch.setattr(CheckpointSchedule, "stops", property(lambda _: False, lambda *_: None), raising=False)
    lies = []
    for seed in range(6):
        world = World(seed, FAILING)
        world.run(1500)
        world.calm(30.0)
        lies += [lie for lie in check(world.history) if "nothing_that_was_promised_is_lost" in lie]
    assert len(lies) >= 3


def test_one_actor_in_calm_weather_loses_nothing() -> None:
    world = World(1, Plot(actors=1, faults=Faults(delay_s=0.01)))
    world.run_for(30.0)
    (actor,) = world.actors
    assert world.state.progress.rulings.keys() == {"applied"}
    assert (actor.state.gradients.lost, actor.state.gradients.refused) == (0, 0)
    assert actor.state.gradients.applied >= 50
    assert world.state.progress.env_steps == 4 * world.state.progress.lags.count


def test_the_learner_knows_where_its_actors_time_went() -> None:
    world = World(1, Plot(actors=3, faults=Faults(delay_s=0.01)))
    world.run_for(30.0)
    seconds = dict(zip(PARTS, world.state.sessions.telemetry.seconds, strict=True))
    worked_s = sum(actor.channel.stats.learn_s for actor in world.actors)
    assert 0.9 * worked_s < seconds["learn"] <= worked_s
    assert seconds["collect"] == 0.0


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
    judged = world.state.progress.version
    world.calm(60.0)
    world.check_alive()
    assert world.state.progress.version > judged + 50


def test_a_learner_that_was_killed_goes_on_from_its_checkpoint() -> None:
    world = World(5, Plot(actors=3, settings={"checkpoint_interval_s": 2.0}))
    world.run_for(15.0)
    assert world.saved is not None
    world.kill_learner()
    world.run_for(10.0)
    assert world.epoch == 2
    assert world.parameters.version >= world.saved > 0
    world.calm(30.0)
    world.check_alive()
    assert sum(actor.state.gradients.lost for actor in world.actors) <= 3 * world.settings.credit


def test_target_networks_follow_the_steps_of_all_actors() -> None:
    plot = Plot(actors=3, faults=Faults(delay_s=0.05, loss=0.1), settings={"target_interval_steps": 40})
    world = World(9, plot)
    world.run_for(60.0)
    world.calm(20.0)
    world.check_alive()
    steps = world.state.progress.env_steps
    assert 0.9 * steps / 40 <= len(world.targets) <= steps / 40 + 1


@pytest.mark.parametrize("optimizer", ["preconditioned", "adam"])
def test_a_run_reaches_its_end_and_everybody_goes_home(optimizer: str) -> None:
    plot = Plot(actors=3, run={"until_steps": 200, "until_return": 1e6}, settings={"optimizer": optimizer})
    world = World(6, plot)
    world.run_for(60.0)
    assert world.exit_code == 3
    assert world.state.shutdown.stage is Stage.FINISHED
    assert [actor.exit_code for actor in world.actors] == [0, 0, 0]
    assert world.saved == world.parameters.version


def test_actors_of_several_speeds_hear_their_shares_and_who_comes_and_goes_changes_them() -> None:
    world = World(10, Plot(actors=4, faults=Faults(delay_s=0.05)))
    paces = (1.0, 1.0, 0.5, 0.5)
    for actor, pace in zip(world.actors, paces, strict=True):
        actor.pace = pace
    world.run_for(90.0)
    world.check_shares()
    expected = [pace / sum(paces) for pace in paces]
    assert [actor.channel.share for actor in world.actors] == pytest.approx(expected, rel=0.3)
    for actor in world.actors[:3]:
        actor.end()
    world.run_for(20.0)
    assert world.actors[3].channel.share == 1.0


@pytest.mark.parametrize(
    ("owner", "name", "planted"),
    [
        (WorkerChannel, "set_share", lambda *_: None),
        (Sessions, "heartbeats", lambda *_, **__: []),
        (Shares, "of", lambda shares, session: 1.0 if session in shares else 0.0),
    ],
    ids=["an actor is deaf to it", "nobody is told of a change", "everybody has all"],
)
def test_shares_that_are_no_parts_of_a_whole_are_found(
    owner: type, name: str, planted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, planted)
    monkeypatch.setattr(Sessions, "validate", lambda sessions: None)
    world = World(11, Plot(actors=4, faults=Faults(delay_s=0.05)))
    world.run_for(4.0)
    with pytest.raises(Broken, match=r"its share is 0|all shares sum to"):
        world.check_shares()


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
