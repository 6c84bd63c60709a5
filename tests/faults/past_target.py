"""An hour past the target: does an honest run go on, whose fleet has one key?

Real daemons as they are shipped, one learner for each task, all side by side: ``--keys``, and two actors with the same
key, as Compose, Slurm and Kubernetes hand it out. The target is out of reach, so a converged policy goes on and on:
its gradients are nearly nought, then something new comes. A task misses its bars where no gradient was applied for more
than STALL_S, a sender went into quarantine, or what an honest actor reported was not believed.
``python -m tests.faults.past_target [--hours H] [--tasks NAME ...] [--senders N]`` runs some of it; one JSON line for
each task, then the record.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults import bars
from tests.faults.bars import Record
from tests.faults.scene import Options, Scene, ask, require
from tests.loopback.system import Daemon

HOURS, ACTORS = 1.0, 2
STALL_S, POLL_S, POINTS = 10.0, 0.1, 12
SEED = 110
# What `learner run` is told. FrozenLake's rewards are zeros until the goal is found; Pendulum's are dense, its actions
# continuous; Acrobot pays -1 a step until the end.
TASKS: dict[str, tuple[str, ...]] = {
    "cartpole": ("cartpole",),
    "lunarlander": ("lunarlander",),
    "frozenlake": ("--env", "FrozenLake-v1", "--set", "actor.env_options.is_slippery=false"),
    "acrobot": ("acrobot",),
    "pendulum": ("pendulum",),
    "lunarlander-continuous": ("lunarlander-continuous",),
}
USUAL = ("cartpole", "lunarlander", "frozenlake")


@dataclass(slots=True)
class Seen:
    """Of one task, by asking its learner. longest_s: without a new version, since the first was there."""

    curve: list[tuple[int, int, float | None]] = field(default_factory=list)  # seconds, environment steps, return
    version: int = 0
    advanced_at: float = 0.0
    longest_s: float = 0.0
    status: Record = field(default_factory=dict)

    def take(self, status: Record, now: float) -> None:
        """One answer."""
        self.status = status
        if self.version:
            self.longest_s = max(self.longest_s, now - self.advanced_at)
        if status["version"] > self.version:
            self.version, self.advanced_at = status["version"], now


def drill(options: Options) -> Record:
    """The usual tasks."""
    return run(USUAL, (options.minutes or 60.0 * HOURS) * 60.0, SEED + options.seed)


def run(tasks: Sequence[str], seconds: float, seed: int, senders: int = 1) -> Record:
    """senders: keys, which the actors share in turns."""
    found: dict[str, Record] = {}
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            found[name] = _run(TASKS[name], seconds, seed, senders)
            print(json.dumps({"task": name, **found[name]}), flush=True)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return bars.record(
        [
            bar
            for name, told in found.items()
            for bar in (
                bars.at_most(f"{name}: s, longest without an applied gradient", told["longest_s"], STALL_S),
                bars.exactly(f"{name}: quarantines", told["quarantines"], 0),
                bars.exactly(f"{name}: sessions with a report that was doubted", told["doubted"], 0),
            )
        ],
        minutes=seconds / 60.0,
        seed=seed,
        senders=senders,
        **{
            name: {task: told[name] for task, told in found.items()} for name in ("env_steps", "return_mean", "refused")
        },
    )


def _run(task: Sequence[str], seconds: float, seed: int, senders: int) -> Record:
    with Scene() as scene:
        keys = scene.folder / "keys"
        for number in range(senders):
            assert scene.launch.command("learner", "keys", "new", f"fleet-{number}", "--keys", keys).wait() == 0
        learner = scene.launch.learner(
            *task, "--actors", 0, "--bind", scene.address, "--run-dir", scene.run_dir, "--keys", keys, "--seed", seed,
            "--until-return", 1e12, "--until-steps", 1 << 50, "--http", f"127.0.0.1:{scene.page}",
            TMPDIR=str(scene.folder),
        )  # fmt: skip
        learner.event("started")
        for number in range(max(ACTORS, senders)):
            key = keys / f"fleet-{number % senders}.key"
            scene.launch.actor(scene.address, f"actor-{number}", "--key", key, TMPDIR=str(scene.folder))
        require(lambda: bool((ask(scene.page, "/status") or {"version": 0})["version"]), "a gradient is applied")
        return _figures(_watched(learner, scene.page, seconds), learner)


def _watched(learner: Daemon, page: int, seconds: float) -> Seen:
    seen, began = Seen(), time.monotonic()
    while (passed_s := time.monotonic() - began) < seconds:
        assert learner.process.poll() is None, learner.story()
        status = ask(page, "/status")
        if status is not None:
            seen.take(status, time.monotonic())
            if passed_s >= seconds * (len(seen.curve) + 1) / (POINTS + 1):
                seen.curve.append((round(passed_s), status["env_steps"], status["return_mean"]))
        time.sleep(POLL_S)
    seen.longest_s = max(seen.longest_s, time.monotonic() - seen.advanced_at)  # the last answer may be long ago
    return seen


def _figures(seen: Seen, learner: Daemon) -> Record:
    status: dict[str, Any] = seen.status
    return {
        "env_steps": status["env_steps"],
        "updates": status["version"],
        "return_mean": status["return_mean"],
        "longest_s": round(seen.longest_s, 2),
        "quarantines": len(learner.said("quarantined")),
        "doubted": len(learner.said("report_doubted")),
        "refused": {outcome: count for outcome, count in status["rulings"].items() if outcome != "applied"},
        "faults": status["faults"],
        "curve": seen.curve,
    }


def main() -> int:
    """Runs what is asked for; returns the exit code."""
    parser = argparse.ArgumentParser("python -m tests.faults.past_target", description=__doc__)
    parser.add_argument("--hours", type=float, default=HOURS, metavar="H")
    parser.add_argument("--tasks", nargs="+", choices=sorted(TASKS), default=USUAL, metavar="NAME")
    parser.add_argument("--senders", type=int, default=1, metavar="N", help="keys; one actor each beyond two")
    parser.add_argument("--seed", type=int, default=SEED, metavar="S")
    asked = parser.parse_args()
    record = run(asked.tasks, 3600.0 * asked.hours, asked.seed, asked.senders)
    print(json.dumps({"bars": record["bars"], "held": record["held"]}), flush=True)
    return 0 if record["held"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
