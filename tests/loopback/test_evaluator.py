"""A real evaluator beside a real run: its scores reach the learner, which keeps the best θ; it ends with the run."""

from __future__ import annotations

import json

from tests.loopback.system import ENDLESS, Launcher, processes


def test_a_live_run_is_evaluated_and_its_best_is_kept(launch: Launcher) -> None:
    run_dir, link = launch.folder / "run", f"ipc://{launch.folder}/link"
    judge = launch.evaluator(link, "--episodes", 4, "--seed", 3, "--name", "judge")
    quick = ("--set", "learner.heartbeat_s=0.2", "--until-steps", 20_000, *ENDLESS)
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
