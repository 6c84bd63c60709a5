"""Fifty subscribers of thick snapshots, one of which stops reading for minutes.

The learner steps with Adam, so that each record of the stream is a key. All are light actors; the one that sleeps is
stopped whole, so that neither it nor its libzmq reads a byte. What is compared is the most memory in as many minutes
with all awake and with one asleep, once the first minute's keys are behind.
"""

from __future__ import annotations

import signal
import time

from tests.faults import bars
from tests.faults.bars import Record
from tests.faults.scene import SPRY, Options, Scene, require, rss, until
from tests.loopback.system import Daemon

MINUTES, SUBSCRIBERS, CALM_S = 5.0, 50, 60.0
HIDDEN = 700  # both layers: about a million parameters, four megabytes for each snapshot
RATE = 0.02  # gradients a second of each; together one
SNAPSHOTS, NEWEST_S = 3.0, 10.0
SETTINGS = (
    f"actor.hidden=[{HIDDEN}, {HIDDEN}]",
    "learner.optimizer=adam",
    "learner.learning_rate=1e-4",
    "learner.publish_interval_s=1",
    "learner.credit_lag=1000",  # go on meanwhile
    "learner.staleness_rule=none",
)


def drill(options: Options) -> Record:
    """All of it."""
    asleep_s = 60.0 * (options.minutes or MINUTES)
    with Scene(*SPRY, *SETTINGS) as scene:
        started = scene.start().event("started")
        snapshot = 4 * int(started["parameters"])
        sleeper = scene.light("sleeper", "--rate", RATE)
        scene.light("awake", "--count", SUBSCRIBERS - 1, "--rate", RATE)
        require(lambda: _actors(scene) == SUBSCRIBERS, "all are here")
        time.sleep(min(asleep_s, CALM_S))
        before = _peak(scene, asleep_s)
        version = _version(scene)
        sleeper.signal(signal.SIGSTOP)
        during = _peak(scene, asleep_s)
        told, awake_at = _version(scene), time.monotonic()
        sleeper.signal(signal.SIGCONT)
        newest_s = until(lambda: _holds(sleeper, awake_at) >= told)
        rise = (during - before) / snapshot
    return bars.record(
        [
            bars.at_most("snapshots that the learner's memory rose by", rise, SNAPSHOTS),
            bars.at_most("s from waking to weights that are not older than the waking", newest_s, NEWEST_S),
            bars.at_least("versions published meanwhile", told - version, 1),
        ],
        minutes=asleep_s / 60.0,
        snapshot_mb=snapshot / 1e6,
        before_mb=before / 1e6,
        during_mb=during / 1e6,
        versions=told - version,
    )


def _peak(scene: Scene, seconds: float) -> int:
    """The most memory of the learner in so many seconds."""
    until_s, found = time.monotonic() + seconds, 0
    while time.monotonic() < until_s:
        found = max(found, rss(scene.learner.pid))
        time.sleep(0.1)
    return found


def _actors(scene: Scene) -> int:
    return len((scene.status() or {"actor_list": []})["actor_list"])


def _version(scene: Scene) -> int:
    return int((scene.status() or {"version": 0})["version"])


def _holds(sleeper: Daemon, since: float) -> int:
    """The newest version that it said it holds, since then."""
    return max((int(said["version"]) for said in sleeper.said("books") if said["at"] > since), default=0)
