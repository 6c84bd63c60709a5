"""A fleet in virtual time: the same to the bit, the turns' learning without latency, and costs that add up."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from actor.algorithms.portion import LEAST_ROWS
from actor.handoff import WorkerChannel
from learner.config import Experiment
from learner.launch.experiment_file import load
from learner.optim.parameters import Parameters
from protocol.errors import UserError
from protocol.messages import Welcome
from protocol.shipped import named
from tests.bench.fleet import world
from tests.bench.fleet.__main__ import main
from tests.bench.fleet.actors import Actor
from tests.bench.fleet.costs import Costs, Crew
from tests.bench.fleet.world import Fleet, Stalled
from tests.learning.turns import train

ROWS, GRADIENTS = 2 * 16, 2 * 2  # of a rollout
SMALL = ["actor.envs=2", "actor.rollout_steps=16", "actor.passes=2", "actor.hidden=[8]", "actor.kl_target=0"]
EVEN = Costs(jitter=0.0)
FREE = Costs(apply_ms=0.0, up_ms=0.0, down_ms=0.0, jitter=0.0)


def small(*settings: str, steps: int = 1_000, name: str = "cartpole") -> Experiment:
    return load(named(name), [*SMALL, f"run.until_steps={steps}", "run.seed=3", *settings], {})


def play(experiment: Experiment, crew: Crew, costs: Costs = EVEN) -> dict[str, Any]:
    with Fleet(experiment, crew, costs) as fleet:
        return fleet.run().answer()


@pytest.mark.parametrize("settings", [(), ("learner.optimizer=adam",), ("learner.aggregation=mean", "actor.codec=i8")])
def test_twice_the_same(settings: tuple[str, ...]) -> None:
    crew = Crew(3, rates=(1.0, 0.3), joins=((2, 0.5),), leaves=((1, 0.4),))
    first, second = (play(small(*settings), crew, Costs()) for _ in range(2))
    assert first == second
    assert first["events"]["actor_joined"] == 5
    assert first["version"] >= 5


def test_the_clock_of_this_machine_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even over a long link, where the learner grants credit by what heartbeats tell of work and of waiting."""
    experiment = small("actor.local_steps=1", "learner.heartbeat_s=0.1", steps=400)
    far = Costs(up_ms=100.0, down_ms=100.0)
    usual = play(experiment, Crew(3), far)
    times = iter(range(10**9))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(times)) ** 1.5)
    assert play(experiment, Crew(3), far) == usual
    assert usual["busy_share"] < 0.5


def test_one_actor_without_latency_learns_as_in_turns() -> None:
    """Each rollout's updates are one message, which is applied before the next rollout begins."""
    for settings in ((), ("actor.normalize_observations=true", "actor.codec=i8")):
        experiment = small(*settings)
        run = train(experiment, actors=1)
        alone = play(experiment, Crew(1), FREE)
        assert alone["theta"] == run.parameters.digest()
        assert alone["env_steps"] == run.progress.env_steps
        assert alone["return_mean_100"] == run.progress.return_mean
        assert alone["lag_mean_updates"] == 0.0


def test_costs_add_up() -> None:
    costs = Costs(step_ms=2.0, gradient_ms=0.5, apply_ms=3.0, up_ms=7.0, down_ms=11.0, jitter=0.0)
    alone = play(small(), Crew(1), costs)
    rollouts = alone["messages"]
    assert alone["gradients"] == rollouts * GRADIENTS
    work_ms = rollouts * (ROWS * costs.step_ms + GRADIENTS * costs.gradient_ms)
    links_ms = costs.down_ms + costs.up_ms + costs.apply_ms  # of the first weights and of the last message
    assert alone["seconds"] == pytest.approx((work_ms + links_ms) / 1e3, abs=1e-9)


def test_work_of_a_rate_and_by_chance_takes_longer_or_shorter() -> None:
    rollout_ms = ROWS * EVEN.step_ms + GRADIENTS * EVEN.gradient_ms
    slow = play(small(), Crew(1, rates=(0.1,)), EVEN)
    assert slow["seconds"] == pytest.approx(10 * slow["messages"] * rollout_ms / 1e3, rel=1e-3)
    loose = play(small(), Crew(1), Costs(jitter=0.5))
    assert 0.5 < 1e3 * loose["seconds"] / (loose["messages"] * rollout_ms) < 1.5
    assert loose["seconds"] != play(small(), Crew(1), EVEN)["seconds"]


def test_a_fleet_of_four_takes_a_quarter_of_the_time() -> None:
    alone, four = (play(small(steps=4_000), Crew(actors)) for actors in (1, 4))
    assert four["seconds"] < 0.27 * alone["seconds"]
    assert four["env_steps"] == pytest.approx(alone["env_steps"], abs=4 * ROWS)
    assert four["busy_share"] > 0.95


def test_four_are_served_in_the_order_of_virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[tuple[float, int]] = []
    judge = Parameters.apply

    def apply(parameters: Parameters, jobs: Any, rate: float) -> Any:
        applied.extend((job.arrived, job.session) for job in jobs)
        return judge(parameters, jobs, rate)

    monkeypatch.setattr(Parameters, "apply", apply)
    play(small(steps=3_000), Crew(4, rates=(1.0, 0.5, 0.25, 0.125)))
    assert [arrived for arrived, _ in applied] == sorted(arrived for arrived, _ in applied)
    senders = [session for _, session in applied]
    counts = sorted(map(senders.count, set(senders)))
    assert counts == pytest.approx([len(senders) * share / 15 for share in (1, 2, 4, 8)], abs=1.0)


def test_a_slow_actor_holds_nobody_up() -> None:
    pair = play(small(), Crew(2))
    crowd = play(small(), Crew(4, rates=(1.0, 0.01, 1.0, 0.01)))
    assert crowd["seconds"] <= pair["seconds"]
    assert crowd["messages"] >= pair["messages"]


def test_a_busy_learner_makes_actors_wait() -> None:
    rollout_ms = ROWS * EVEN.step_ms + GRADIENTS * EVEN.gradient_ms
    settings = ("actor.local_steps=16", "learner.publish_share=1.0")
    fast, slow = (play(small(*settings), Crew(4), Costs(apply_ms=ms, jitter=0.0)) for ms in (0.0, rollout_ms))
    assert fast["busy_share"] > 0.95
    assert slow["busy_share"] < 0.5
    assert slow["seconds"] == pytest.approx(slow["version"] * rollout_ms / 1e3, rel=0.2)


def test_who_joins_helps_and_who_leaves_hands_in_what_it_holds_back() -> None:
    alone = play(small(), Crew(1))
    joined = play(small(), Crew(1, joins=((3, 0.2),)))
    assert joined["events"]["actor_joined"] == 4
    assert 0.3 * alone["seconds"] < joined["seconds"] < 0.6 * alone["seconds"]
    left = play(small(), Crew(4, leaves=((3, 0.1),)))
    assert left["events"]["actor_left"] == 3
    assert left["seconds"] > joined["seconds"]
    assert set(left["rulings"]) == {"applied"}
    assert left["messages"] > left["gradients"] / GRADIENTS  # what was held back comes on its own


def rows_of(actor: Actor, begin: float = 0.0, end: float = 1e9) -> list[int]:
    """Of its rollouts that began within these virtual seconds."""
    return [rows for now, rows in actor.rollouts if begin <= now < end]


SHARED = ("actor.envs=8", "actor.rollout_steps=64", "actor.passes=1")
SHARED_ROWS = 8 * 64
ROLLOUT_S = 2.0  # of all these rows
STEADY = Costs(step_ms=1e3 * ROLLOUT_S / SHARED_ROWS)


def test_who_joins_makes_everybody_s_rollouts_shorter_and_who_leaves_gives_them_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Within a rollout and a few ticks, and nobody is welcomed or configured anew."""
    configured: Counter[WorkerChannel] = Counter()
    configure = WorkerChannel.configure

    def count(channel: WorkerChannel, welcome: Welcome) -> None:
        configured[channel] += 1
        configure(channel, welcome)

    monkeypatch.setattr(WorkerChannel, "configure", count)
    crew = Crew(1, joins=((5, 6.0),), leaves=((5, 18.0), (1, 27.0)))  # who came first goes first
    with Fleet(small(*SHARED, steps=1_000_000), crew, STEADY) as fleet:
        answer, actors = fleet.run().answer(), fleet.actors
    assert rows_of(actors[0], 0.0, 0.1) == [LEAST_ROWS]
    assert set(rows_of(actors[0], 0.1, 6.0)) == {SHARED_ROWS}
    crowded = [rows_of(actor, 6.5 + ROLLOUT_S, 18.0) for actor in actors]
    assert all(crowded)
    together = sum(sum(rows) / len(rows) for rows in crowded)
    assert SHARED_ROWS / 1.5 < together < 1.5 * SHARED_ROWS
    assert max(map(max, crowded)) < SHARED_ROWS / 2
    last = rows_of(actors[-1], 18.5 + ROLLOUT_S, 27.0)
    assert last
    assert set(last) == {SHARED_ROWS}
    events = answer["events"]
    assert events["welcomed"] == events["actor_joined"] == events["actor_left"] == 6
    assert list(configured.values()) == [1] * 6
    assert answer["rulings"].keys() == {"applied"}


def test_two_follow_the_settings_from_their_second_rollout_on() -> None:
    with Fleet(small(*SHARED, steps=6_000), Crew(2), STEADY) as fleet:
        fleet.run()
    for actor in fleet.actors:
        least, *others = rows_of(actor)
        assert least == LEAST_ROWS
        assert len(others) > 4
        assert set(others) == {SHARED_ROWS}


def test_a_slow_actor_has_a_smaller_share_and_more_rollouts_than_by_its_speed() -> None:
    """So what it sends is nearly as fresh as what others do."""
    with Fleet(small(*SHARED, steps=15_000), Crew(3, rates=(1.0, 1.0, 0.3)), STEADY) as fleet:
        fleet.run()
    fast, _, slow = (rows_of(actor, 12.0) for actor in fleet.actors)
    assert max(slow) < min(fast)
    assert len(slow) > 0.35 * len(fast)  # by its speed 0.3


def test_a_run_that_everybody_leaves_is_over() -> None:
    gone = play(small(), Crew(2, joins=((1, 0.3),), leaves=((2, 0.1), (1, 0.5))))
    assert not gone["solved"]
    assert gone["events"]["actor_left"] == gone["events"]["actor_joined"] == 3
    assert gone["env_steps"] < 1_000


def test_a_target_is_reached_and_the_curve_leads_to_it() -> None:
    solved = play(small("run.until_return=9", steps=100_000), Crew(2))
    assert solved["solved"]
    assert solved["return_mean_100"] >= 9
    assert solved["curve"][-1] == (solved["env_steps"], solved["seconds"], solved["return_mean_100"])


@pytest.mark.parametrize("name", ["cartpole-n-step-q", "cartpole-memory"])
def test_methods_with_a_message_for_each_gradient(name: str) -> None:
    settings = [
        "run.until_steps=600",
        "actor.envs=2",
        "actor.rollout_steps=8",
        "actor.minibatches=2",
        "actor.local_steps=1",
    ]
    answer = play(load(named(name), settings, {}), Crew(2))
    assert answer["messages"] >= answer["gradients"] - 2 * 32
    assert set(answer["rulings"]) == {"applied"}


def test_nothing_goes_on_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "STALLED_S", 0.001)
    with pytest.raises(Stalled, match="no step has come"), Fleet(small(), Crew(1), EVEN) as fleet:
        fleet.run()


def test_settings_that_need_a_clock_are_refused() -> None:
    with pytest.raises(UserError, match="real clock"):
        Fleet(small("actor.codec=auto"), Crew(1), EVEN)


def test_the_command_prints_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["cartpole", "3", "--actors", "1", "--join", "1@0.1", "--leave", "1@0.2", "--rates", "1,0.5", "--step-ms=2"]
    main([*asked, *SMALL, "run.until_steps=400"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["events"].items() >= {"actor_joined": 2, "actor_left": 1}.items()


@pytest.mark.parametrize(
    "wrong",
    [
        "--actors=0",
        "--actors=1 --join=2",
        "--actors=1 --rates=0",
        "--actors=1 --jitter=1",
        "--actors=1 --step-ms=0",
        "--actors=1 actor.codec=auto",
        "--actors=1 learner.optimiser=adam",
    ],
)
def test_what_cannot_be_is_a_sentence(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["cartpole", "3", *wrong.split()])
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err
