"""A learner that dies at each named point of its disk, at its first pass and later, and halfway through each write.

A light actor writes down each answer. After each death the learner is started again at the same place: nothing that was
answered may be gone, and the journal must lead to where it begins, to the bit.
"""

from __future__ import annotations

import signal
import time

from learner.durability.disk import POINTS
from tests.faults import bars
from tests.faults.bars import Record
from tests.faults.learner_kills import last_told, replay
from tests.faults.scene import JOURNAL, SPRY, Options, Scene, until

BACK_S = 15.0
FIRST = ("base.create", "base.write", "base.sync")  # passed by the first life of a run alone
SETTINGS = (*SPRY, *JOURNAL, "learner.checkpoint_interval_s=0.5")


def cases(options: Options) -> list[str]:
    """POINT@N=ACTION, each once."""
    later = [f"{point}@3=kill" for point in POINTS if point.startswith("checkpoint.")]
    later += ["journal.write@30=kill", "journal.sync@30=kill"]
    halves = ["journal.write@1=half", "journal.write@25=half", "checkpoint.write@2=half"]
    found = [*(f"{point}@1=kill" for point in POINTS if point not in FIRST), *later, *halves]
    return found[: options.times]


def drill(options: Options) -> Record:
    """All of it."""
    gone: list[int] = []
    missed: list[str] = []
    replays = 0
    back_s: list[float] = []
    for point in FIRST:
        with Scene(*SETTINGS) as scene:
            missed += _missed(scene, f"{point}@1=kill")
            scene.start().event("started")
            scene.learner.kill()
            replays += bool(replay(scene))
    asked = cases(options)
    with Scene(*SETTINGS) as scene:
        begun = int(scene.start().event("started")["version"])
        acks = scene.folder / "acks"
        light = scene.light("light", "--acks", acks)
        light.event("accepted")
        for case in asked:
            _await_checkpoint(scene, begun)  # which the next life makes a base
            scene.learner.kill()
            missed += _missed(scene, case)
            replays += bool(replay(scene))
            died_at = time.monotonic()
            started = scene.start().event("started")
            begun = int(started["version"])
            gone.append(last_told(acks, int(started["epoch"])) - begun)

            def accepted(epoch: int = int(started["epoch"])) -> bool:
                return any(said["epoch"] == epoch for said in light.said("accepted"))

            back_s.append(time.monotonic() - died_at if until(accepted) is not None else float("inf"))
        scene.learner.kill()
        replays += bool(replay(scene))
        backwards = len(light.said("went_back"))
    return bars.record(
        [
            bars.exactly("points that were never reached", len(missed), 0),
            bars.at_most("versions answered before a death and gone after it, most", max(gone), 0),
            bars.exactly("`learner replay --verify` that failed", replays, 0),
            bars.exactly("times that an actor's version went back", backwards, 0),
            bars.at_most("s until the actor had a gradient accepted, longest", max(back_s), BACK_S),
        ],
        deaths=len(asked) + len(FIRST),
        missed=missed,
        lost=gone,
    )


def _await_checkpoint(scene: Scene, begun: int) -> None:
    """A newer one than what this life began from, which may be a base already."""
    scene.learner.event("checkpoint_written", lambda said: int(said["version"]) > begun)


def _missed(scene: Scene, case: str) -> list[str]:
    """How a life with this failpoint went on or ended otherwise; nothing where it ended there."""
    scene.start(failpoint=case)
    if until(lambda: scene.learner.process.poll() is not None) is None:
        scene.learner.kill()
        return [f"{case} was not passed: {scene.learner.story()}"]
    code = scene.learner.wait()
    return [] if code == -signal.SIGKILL else [f"{case} was not passed, exit code {code}: {scene.learner.story()}"]
