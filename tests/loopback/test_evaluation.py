"""The best policy over real sockets and a real disk: kept through a second life, and the target network beside it."""

from __future__ import annotations

import json
import secrets
import signal

import numpy as np

from learner.durability.checkpoint import load_best
from protocol.messages import Evaluation, Gradient, Hello, Report, Snapshot, SnapshotRequest, Welcome
from tests.loopback.stranger import Stranger
from tests.loopback.system import ENDLESS, Launcher, processes

RULES = ("--set", "learner.target_interval_steps=10", "--set", "learner.staleness_rule=gap")


def judge(stranger: Stranger) -> Welcome:
    """Greets as an actor that evaluates."""
    stranger.say(Hello("judge", secrets.randbits(62) + 1, ("f32",), "evaluate"))
    stranger.welcome = stranger.hear(Welcome)
    return stranger.welcome


def scores(stranger: Stranger, mean: float) -> int:
    """Asks for the newest weights and says what they are worth; their version."""
    assert stranger.welcome is not None
    session = stranger.welcome.session
    stranger.say(SnapshotRequest(session))
    version = stranger.hear(Snapshot).version
    stranger.say(Evaluation(session, version, 10, mean, 1.0, 0.6, 3))
    return version


def asked_for(stranger: Stranger, target: bool) -> Snapshot:
    """What the learner sends when it is asked."""
    assert stranger.welcome is not None
    stranger.say(SnapshotRequest(stranger.welcome.session, target))
    return stranger.hear(Snapshot)


def trained(stranger: Stranger, sequence: int, env_steps: int) -> Gradient:
    gradient, payload = stranger.gradient(sequence, 1.0, report=Report(env_steps))
    assert stranger.judged(gradient, payload).outcome == "applied"
    return gradient


def test_the_best_policy_is_kept_through_a_second_life(launch: Launcher) -> None:
    common = ("--actors", 0, "--bind", "tcp://127.0.0.1:0", "--run-dir", "run", *RULES, *ENDLESS)
    learner = launch.learner(*common)
    address = learner.event("started")["bound"][0]
    with Stranger(address) as evaluator, Stranger(address) as actor:
        judge(evaluator)
        assert scores(evaluator, 5.0) == 0
        assert learner.event("best_checkpoint")["version"] == 0
        actor.greet()
        assert trained(actor, 1, 4).base_version == 0
        assert [asked_for(actor, target).target for target in (False, True)] == [0, 0]
        learner.signal(signal.SIGTERM)
        assert learner.wait() == 0, learner.story()
        evaluator.welcome = actor.welcome = None
    best = load_best(launch.folder / "run" / "checkpoints")
    assert best is not None
    assert (best.version, best.score) == (0, {"episodes": 10, "mean": 5.0, "std": 1.0, "ci95": 0.6, "seed": 3})
    result = json.loads((launch.folder / "run" / "result.json").read_text())
    assert (result["evaluations"], result["evaluated_best_mean"], result["actors"]) == (1, 5.0, 1)
    assert (result["target_version"], result["staleness_rule"]) == (0, "gap")

    again = launch.learner(*common, "--resume")
    with Stranger(again.event("started")["bound"][0]) as evaluator:
        judge(evaluator)
        assert asked_for(evaluator, True).version == asked_for(evaluator, False).target == 1  # what was restored
        scores(evaluator, 4.0)
        assert again.event("evaluated")["best"] is False
        scores(evaluator, 6.0)
        assert again.event("best_checkpoint")["mean"] == 6.0
    again.signal(signal.SIGTERM)
    assert again.wait() == 0, again.story()
    better = load_best(launch.folder / "run" / "checkpoints")
    assert better is not None
    assert better.version == 1
    assert not np.array_equal(better.arrays["theta"], best.arrays["theta"])


def test_a_live_run_is_evaluated_and_its_best_is_kept(launch: Launcher) -> None:
    run_dir, link = launch.folder / "run", f"ipc://{launch.folder}/link"
    judge = launch.evaluator(link, "--episodes", 4, "--seed", 3, "--name", "judge")
    quick = ("--set", "learner.heartbeat_s=0.2", *ENDLESS, "--until-steps", 20_000)
    learner = launch.learner("--actors", 0, "--bind", link, "--run-dir", run_dir, *quick)
    assert learner.event("evaluator_joined")["actor"] == "judge"
    first = judge.event("evaluated")  # of θ₀: nobody trains yet
    assert (first["version"], first["episodes"], first["seed"]) == (0, 4, 3)
    assert learner.event("evaluated")["mean"] == first["mean"]
    assert learner.event("best_checkpoint")["version"] == 0

    launch.actor(link, "worker")
    assert learner.wait() == 3, learner.story()
    assert judge.wait() == 0, judge.story()
    scores = judge.said("evaluated")
    assert len({said["version"] for said in scores}) == len(scores) > 1
    summary = judge.event("finished")
    assert summary["evaluations"] == len(scores)
    assert summary["best"]["mean"] == max(said["mean"] for said in scores)
    assert processes(launch.mark, "judge") == []

    result = json.loads((run_dir / "result.json").read_text())
    assert (result["actors"], result["evaluations"]) == (1, len(learner.said("evaluated")))
    best = result["evaluated_best_version"], result["evaluated_best_mean"]
    assert best in {(said["version"], said["mean"]) for said in scores}
    again = launch.command("actor", "evaluate", run_dir, "--best", "--episodes", 4, "--seed", 3, "--json")
    assert again.process.returncode == 0, again.story()
    (line,) = again.events
    assert (line["version"], line["mean"]) == best  # the same θ from the same seeds


def test_one_evaluation_then_it_leaves(launch: Launcher) -> None:
    link = f"ipc://{launch.folder}/link"
    learner = launch.learner("--actors", 0, "--bind", link, "--run-dir", launch.folder / "run", *ENDLESS)
    learner.event("started")
    judge = launch.evaluator(link, "--episodes", 2, "--once")
    assert judge.wait() == 0, judge.story()
    assert [said["event"] for said in judge.events if said["event"] != "welcomed"] == ["evaluated", "finished"]
    assert learner.event("evaluated")["version"] == 0
    assert learner.event("evaluator_left")["why"] == "left"


def test_an_episode_of_a_live_run_is_recorded(launch: Launcher) -> None:
    link, film = f"ipc://{launch.folder}/link", launch.folder / "a.mp4"
    learner = launch.learner("--actors", 0, "--bind", link, "--run-dir", launch.folder / "run", *ENDLESS)
    learner.event("started")
    watched = launch.command("actor", "watch", "--learner", link, "--out", film)
    assert watched.process.returncode == 0, watched.story()
    assert watched.lines[0].startswith("episode 1  return ")
    assert "600 x 400  50 a second" in watched.lines[1]
    assert film.stat().st_size > 0
    assert learner.said("evaluated") == []
