"""A learner that is killed at any moment, also while it starts, and started again at the same place.

Two real actors at other addresses and a light one that writes down each answer. Nobody helps them back. With
``--journal`` the learner is durable to the last answer, and that is held against what was answered.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from tests.faults import bars
from tests.faults.bars import Record
from tests.faults.scene import JOURNAL, SPRY, Options, Scene, metric, require, until
from tests.loopback.system import Daemon, free_ports

TIMES, REAL = 50, 2
BACK_S = 15.0
QUIET_S = 3.0  # most that a life is left alone once all are back
EARLY, EARLY_S = 0.2, 2.5  # share of lives that are killed while they start, and within what time
NOTHING_COMPARED = 3  # exit code of a replay that met no checkpoint
REPLAYED = 10  # lives between two looks at the journal
METRIC = 'farflung_actor_gradients_answered_total{outcome="applied"}'


class Remote:
    """A real actor and what its page says."""

    def __init__(self, scene: Scene, number: int) -> None:
        self._page = free_ports()
        self._before = 0.0
        page = ("--metrics", f"127.0.0.1:{self._page}")
        self.daemon = scene.launch.actor(scene.address, f"remote-{number}", *page)

    def forget(self) -> None:
        """The learner is gone: what counts now is what comes after."""
        self._before = metric(self._page, METRIC) or 0.0

    def accepted(self) -> bool:
        """Whether a gradient was, since then."""
        return (metric(self._page, METRIC) or 0.0) > self._before

    def epochs(self) -> list[int]:
        """Of its welcomes, in their order."""
        return [int(said["epoch"]) for said in self.daemon.said("welcomed")]


def drill(options: Options) -> Record:
    """All of it."""
    times, chance = options.times or TIMES, random.Random(options.seed)
    with Scene(*SPRY, *(JOURNAL if options.journal else ())) as scene:
        scene.start().event("started")
        acks = scene.folder / "acks"
        light = scene.light("light", "--acks", acks)
        remotes = [Remote(scene, number) for number in range(REAL)]
        require(lambda: all(remote.accepted() for remote in remotes), "all actors train")
        back_s: list[float] = []
        behind: list[int] = []
        replays: list[int] = []
        kills = 0
        while kills < times:
            time.sleep(chance.uniform(0.0, QUIET_S))
            kills += _kill(scene, remotes, chance, times - kills)
            if options.journal and len(back_s) % REPLAYED == 0:
                replays.append(replay(scene))
            killed_at = time.monotonic()  # or a moment before: what is between is not the learner's time
            started = scene.start().event("started")
            told = last_told(acks, int(started["epoch"]))
            behind.append(told - int(started["version"]))
            back_s.append(_back(remotes, light, int(started["epoch"]), killed_at))
        scene.learner.kill()
        if options.journal:
            replays.append(replay(scene))
        backwards = len(light.said("went_back")) + sum(_falls(remote.epochs()) for remote in remotes)
        alive = all(daemon.process.poll() is None for daemon in (light, *(remote.daemon for remote in remotes)))
    found = [
        bars.at_most("s until every actor had a gradient accepted, longest", max(back_s), BACK_S),
        bars.exactly("times that an actor's epoch or version went back", backwards, 0),
        bars.exactly("actors that ended", int(not alive), 0),
    ]
    if options.journal:
        found.append(bars.at_most("versions answered before a kill and gone after it, most", max(behind), 0))
        found.append(bars.exactly("`learner replay --verify` that failed", sum(map(bool, replays)), 0))
    median_s = bars.percentile(back_s, 0.5) if len(back_s) > 1 else back_s[0]
    durability = "journal" if options.journal else "checkpoint"
    return bars.record(
        found, durability=durability, kills=kills, lives=scene.lives, back_s_median=median_s, lost=behind
    )


def _kill(scene: Scene, remotes: Sequence[Remote], chance: random.Random, most: int) -> int:
    """SIGKILL, and now and then again while the next life starts; how many that were."""
    scene.learner.kill()
    kills = 1
    while kills < most and chance.random() < EARLY:
        scene.start()
        time.sleep(chance.uniform(0.0, EARLY_S))
        scene.learner.kill()
        kills += 1
    for remote in remotes:
        remote.forget()
    return kills


def _back(remotes: Sequence[Remote], light: Daemon, epoch: int, since: float) -> float:
    """Seconds from ``since`` until the last actor had a gradient accepted by this life; infinite where never."""

    def all_accepted() -> bool:
        heard = any(said["epoch"] == epoch for said in light.said("accepted"))
        return heard and all(remote.accepted() for remote in remotes)

    return time.monotonic() - since if until(all_accepted) is not None else float("inf")


def last_told(acks: Path, epoch: int) -> int:
    """The highest version that lives before this one told the light actor as made by a gradient of its own."""
    told = [line.split() for line in acks.read_text(encoding="utf-8").splitlines() if line.startswith("applied")]
    return max((int(version) for *_, life, version in told if int(life) < epoch), default=0)


def _falls(values: Sequence[int]) -> int:
    return sum(new <= old for old, new in pairwise(values))


def replay(scene: Scene) -> int:
    """The exit code of ``learner replay --verify`` on what the learner left; 0 too before there was a checkpoint."""
    code = scene.launch.command("learner", "replay", scene.run_dir, "--verify").wait()
    none_yet = not any((scene.run_dir / "checkpoints").iterdir())
    return 0 if code == NOTHING_COMPARED and none_yet else code
