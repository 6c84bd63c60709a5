"""SIGTERM at any moment: an actor is out within three seconds, a learner within ten with all that it learnt on disk."""

from __future__ import annotations

import json
import random
import signal
import time

from learner.durability import checkpoint as disk
from tests.faults import bars
from tests.faults.bars import Record
from tests.faults.scene import Options, Scene
from tests.loopback.system import Daemon, processes

TIMES, LONGEST_S = 100, 6.0  # after the start, drawn evenly: while it imports, joins, trains
ACTOR_S, LEARNER_S = 3.0, 10.0


def drill(options: Options) -> Record:
    """A learner for each time, with a local actor and a remote one that is asked first."""
    times, chance = options.times or TIMES, random.Random(options.seed)
    actor_s: list[float] = []
    learner_s: list[float] = []
    wrong: list[str] = []  # each exit code that is not 0, with the last that its process said
    undurable: list[str] = []
    left = 0
    for _ in range(times):
        with Scene() as scene:
            learner = scene.start(actors=1)
            remote = scene.launch.actor(scene.address, "remote")
            first, second = sorted(chance.uniform(0.0, LONGEST_S) for _ in range(2))
            time.sleep(first)
            actor_s.append(_end(remote))
            time.sleep(second - first)
            learner_s.append(_end(learner))
            wrong += [f"{daemon.process.returncode}: {daemon.story()}" for daemon in (remote, learner) if _bad(daemon)]
            undurable += _lost(scene, learner)
            left += len(processes(scene.launch.mark))
    return bars.record(
        [
            bars.at_most("s until the actor was out, longest", max(actor_s), ACTOR_S),
            bars.at_most("s until the learner was out, longest", max(learner_s), LEARNER_S),
            bars.exactly("learners whose last version is not on disk", len(undurable), 0),
            bars.exactly("exit codes that are not 0, of those that had begun", len(wrong), 0),
            bars.exactly("processes left behind", left, 0),
        ],
        times=times,
        wrong=wrong,
        undurable=undurable,
        actor_median_s=bars.percentile(actor_s, 0.5) or actor_s[0],
        learner_median_s=bars.percentile(learner_s, 0.5) or learner_s[0],
    )


def _end(daemon: Daemon) -> float:
    """Asked; seconds until it has exited."""
    began = time.monotonic()
    daemon.signal(signal.SIGTERM)
    daemon.wait()
    return time.monotonic() - began


def _bad(daemon: Daemon) -> bool:
    """Whether its exit code is not 0, nor that of a process that had not come as far as to listen to signals."""
    return daemon.process.returncode not in ((0,) if daemon.events else (0, -signal.SIGTERM))


def _lost(scene: Scene, learner: Daemon) -> list[str]:
    """What the newest checkpoint lacks of what was learnt; nothing where nothing was: θ₀ follows from the seed."""
    if not learner.said("started"):
        return []
    updates = json.loads((scene.run_dir / "result.json").read_text(encoding="utf-8"))["version"]
    kept = disk.newest(scene.run_dir / "checkpoints").checkpoint
    version = 0 if kept is None else kept.version
    return [] if version == updates else [f"{updates} updates, {version} on disk"]
