"""Actors that are killed, one a second, and started again by whoever looks after them.

Eight actors. With light ones every gradient takes the same off a coordinate that belongs to one life of one actor, so θ
itself says how many of each life's gradients were applied: not fewer than were acknowledged, not more than were sent.
"""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from learner.durability import checkpoint as disk
from tests.faults import bars
from tests.faults.bars import Record
from tests.faults.peers import paced
from tests.faults.peers.follower import Follower, weights_of
from tests.faults.peers.light import SIZE
from tests.faults.scene import PLAIN, SPRY, Options, Scene, metric, require, watched
from tests.loopback.system import Daemon, free_ports

TIMES, ACTORS, EVERY_S = 100, 8, 1.0
RATE, LEARNING_RATE = 10.0, 2.0**-10  # gradients a second of a light actor
BACK_S, PAUSE_STEPS = 5.0, 5.0


class Slot:
    """One actor and those who followed it. lives: (name, started at, killed at or None, coordinate)."""

    def __init__(self, scene: Scene, number: int, *, real: bool) -> None:
        self.lives: list[tuple[str, float, float | None, int]] = []
        self.acked = 0  # by lives that are over, as far as they could be asked
        self._scene, self._number, self._real = scene, number, real
        self._daemon: Daemon
        self._page = free_ports()

    def start(self, coordinate: int) -> None:
        """The next life."""
        name = f"actor-{self._number}-{len(self.lives)}"
        self.lives.append((name, time.monotonic(), None, coordinate))
        if self._real:
            page = ("--metrics", f"127.0.0.1:{self._page}", "--allow-module", paced.MODULE)
            self._daemon = self._scene.launch.actor(self._scene.address, name, *page)
        else:
            acks = ("--coordinate", coordinate, "--acks", self._scene.folder / name, "--rate", RATE)
            self._daemon = self._scene.light(name, *acks)

    def kill(self) -> None:
        """SIGKILL."""
        self.acked += self._asked()
        self._daemon.kill()
        name, started, _, coordinate = self.lives[-1]
        self.lives[-1] = (name, started, time.monotonic(), coordinate)

    def stop(self) -> bool:
        """Asked to leave; whether it did."""
        self.acked += self._asked()
        self._daemon.signal(signal.SIGTERM)
        return self._daemon.wait() == 0

    def _asked(self) -> int:
        """What this life says was applied of it."""
        if self._real:
            return int(metric(self._page, 'farflung_actor_gradients_answered_total{outcome="applied"}') or 0)
        return written(self._scene.folder / self.lives[-1][0])[1]

    @property
    def name(self) -> str:
        """Of the present life."""
        return self.lives[-1][0]


def written(acks: Path) -> tuple[int, int]:
    """How many gradients a light actor sent, and how many were acknowledged."""
    lines = acks.read_text(encoding="utf-8").splitlines() if acks.exists() else []
    return sum(line.startswith("sent") for line in lines), sum(line.startswith("applied") for line in lines)


def drill(options: Options) -> Record:
    """All of it."""
    times, chance = options.times or TIMES, random.Random(options.seed)
    more = (*paced.SETTINGS, "actor.codec=topk_i8") if options.real else ()
    allow = ("--allow-module", paced.MODULE) if options.real else ()
    with Scene(*PLAIN, *SPRY, *more) as scene:
        scene.start(*allow).event("started")
        scene.learner.signal(signal.SIGTERM)  # leaves a checkpoint of θ₀
        assert scene.learner.wait() == 0, scene.learner.story()
        first = _theta(scene)
        scene.start(*allow).event("started")
        slots = [Slot(scene, number, real=options.real) for number in range(ACTORS)]
        coordinates = iter(range(1, times + ACTORS + 1))
        for slot in slots:
            slot.start(next(coordinates))
        require(lambda: _here(scene) == {slot.name for slot in slots}, "all actors are here")
        with Follower(weights_of(scene.address)) as follower, watched(scene.page) as seen:
            time.sleep(3.0)
            for _ in range(times):
                slot = chance.choice(slots)
                slot.kill()
                slot.start(next(coordinates))
                time.sleep(EVERY_S)
            time.sleep(BACK_S + 1.0)
        stayed = sum(not slot.stop() for slot in slots)
        scene.learner.signal(signal.SIGTERM)
        code = scene.learner.wait()
        wrong, applied = _books(scene, slots, first) if not options.real else (0, 0)
        result = disk.newest(scene.run_dir / "checkpoints").checkpoint
        assert result is not None
        gone_s, back_s = _delays(slots, seen.status)
        step_s = bars.percentile(follower.steps_s(ACTORS), 0.5) or 0.0
        acked = sum(slot.acked for slot in slots)
        counted = bars.exactly("lives whose acknowledged gradients are not in θ exactly once", wrong, 0)
        return bars.record(
            [
                *([] if options.real else [counted]),
                bars.at_most("gradients that actors saw applied, to versions", acked, result.version),
                bars.exactly("records of the log that do not continue the one before", follower.breaks(), 0),
                bars.at_most("s until a killed actor is forgotten, longest", max(gone_s), BACK_S),
                bars.at_most("s until its replacement is a member, longest", max(back_s), BACK_S),
                bars.at_most("s, longest pause of the loop", max(seen.answers_s), PAUSE_STEPS * step_s),
                bars.at_most("s, longest pause of progress", max(follower.pauses_s()), PAUSE_STEPS * step_s),
                bars.exactly("exit codes", code + stayed, 0),
            ],
            actors="real" if options.real else "light",
            kills=times,
            version=result.version,
            acked=acked,
            applied_in_theta=applied,
            step_ms=1e3 * step_s,
            loop_p99_ms=1e3 * (bars.percentile(seen.answers_s, 0.99) or 0.0),
            progress_p99_ms=1e3 * (bars.percentile(follower.pauses_s(), 0.99) or 0.0),
        )


def _here(scene: Scene) -> set[str]:
    return {actor["name"] for actor in (scene.status() or {"actor_list": []})["actor_list"]}


def _theta(scene: Scene) -> np.ndarray:
    found = disk.newest(scene.run_dir / "checkpoints").checkpoint
    assert found is not None
    return found.arrays["theta"]


def _books(scene: Scene, slots: list[Slot], first: np.ndarray) -> tuple[int, int]:
    """Lives whose count in θ is not between what was acknowledged and what was sent, and the sum of all counts."""
    taken = (first.astype(np.float64) - _theta(scene)) / (LEARNING_RATE * SIZE)
    wrong = total = 0
    for slot in slots:
        for name, _, _, coordinate in slot.lives:
            applied, (sent, acked) = round(taken[coordinate]), written(scene.folder / name)
            wrong += not acked <= applied <= sent
            total += applied
    return wrong, total


def _delays(slots: list[Slot], status: list[tuple[float, dict[str, Any]]]) -> tuple[list[float], list[float]]:
    """Of each kill and of each start, how long the learner's list was wrong about it; infinite where for good."""
    names = [(at, {actor["name"] for actor in found["actor_list"]}) for at, found in status]
    gone_s, back_s = [0.0], [0.0]
    for slot in slots:
        for number, (name, started, killed, _) in enumerate(slot.lives):
            if number:
                over = killed if killed is not None else float("inf")
                seen = next((at for at, here in names if at >= started and name in here), None)
                if over - started > BACK_S:  # killed before it could be missed
                    back_s.append(float("inf") if seen is None else seen - started)
            if killed is not None:
                gone_s.append(next((at for at, here in names if at >= killed and name not in here), 1e9) - killed)
    return gone_s, back_s
