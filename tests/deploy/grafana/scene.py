"""What the dashboards are shown of: three runs of LunarLander under one Prometheus, and what happens to the first.

Knows processes. The first run has actors with pages of their own, a journal and a target. A while after it began an
actor joins that sends what is no number, somebody sends what is no message, and at last a sound actor is killed. So
alerts fire, gradients are refused, and no panel is empty.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.drill.server import Prometheus
from tests.faults.scene import JOURNAL, SPRY, Scene, require
from tests.loopback.stranger import Stranger
from tests.loopback.system import Daemon, Launcher, free_ports

SOUND_S, TROUBLED_S = 130.0, 45  # before the trouble begins, and after
TOLD_S, PATIENCE_S = 15.0, 180.0  # what is seen of the alerts at least; until they fire at most
ALERTS = {"RunDiverged", "ActorsQuarantined"}
LOST_S = 8.0  # until a killed actor is missed, and that was scraped
MEASURED = "tests.deploy.grafana.measured"
WRAPPED = (f'actor.wrappers=["{MEASURED}:Landing"]',)
# In processes of their own, so that one that raises is replaced and does not take its actor along.
APART = ("actor.vectorization=processes", "actor.envs=4", "actor.simulator_failures=1000")
ALLOWED = ("--allow-module", MEASURED)
TARGET = ("--until-return", 300)  # out of reach: no run ends while it is looked at
ACTORS, OTHERS = 2, ("2", "3")  # of the first run; seeds of the other runs


@dataclass(slots=True)
class Shown:
    """A Prometheus that has seen all that, from when to when, in seconds since the epoch. run: the first one's name."""

    prometheus: Prometheus
    run: str
    begin: float
    end: float


@contextlib.contextmanager
def shown(alerts: str | None = None) -> Iterator[Shown]:
    """All of it while it runs. alerts: HOST:PORT of an Alertmanager that is told."""
    with Scene(*SPRY, *JOURNAL, *WRAPPED, *APART, "learner.checkpoint_interval_s=10") as scene:
        first = [free_ports() for _ in range(ACTORS + 1)]
        others = [_other(scene.launch, scene.folder, seed) for seed in OTHERS]
        targets = {"farflung-learner": [scene.page, *others], "farflung-actor": first}
        with Prometheus(scene.folder, targets, hurry=False, alerts=alerts) as prometheus:
            scene.start("--seed", 1, *ALLOWED, *TARGET, experiment="lunarlander")
            actors = [_joined(scene, port, "actor", f"a{port}") for port in first[:ACTORS]]
            require(lambda: (scene.status() or {"version": 0})["version"] > 10, "it trains")
            begin = time.time()
            time.sleep(SOUND_S)
            _joined(scene, first[ACTORS], "tests.deploy.drill.vandal", "vandal")
            _troubled(scene, prometheus)
            actors[-1].kill()
            time.sleep(LOST_S)
            status = scene.status()
            assert status is not None, "the first learner does not answer"
            yield Shown(prometheus, status["run"], begin, time.time())


def _troubled(scene: Scene, prometheus: Prometheus) -> None:
    """Until the alerts that the trouble sets off fire, and a while longer; somebody sends no messages meanwhile."""
    began = quiet_at = time.time()
    with Stranger(scene.address) as stranger:
        while time.time() < max(began + TROUBLED_S, quiet_at + TOLD_S):
            stranger.throw(b"no frame of ours")
            time.sleep(1.0)
            if not prometheus.firing() >= ALERTS:
                quiet_at = time.time()
            assert time.time() < began + PATIENCE_S, f"never fired: {sorted(ALERTS - prometheus.firing())}"


def _other(launch: Launcher, folder: Path, seed: str) -> int:
    """One more run with an actor of its own; returns the port of its page."""
    page = free_ports()
    place = ("--bind", f"tcp://127.0.0.1:{free_ports()}", "--http", f"127.0.0.1:{page}", "--run-dir", folder / seed)
    launch.learner("lunarlander", "--seed", seed, "--actors", 1, *TARGET, *place)
    return page


def _joined(scene: Scene, page: int, module: str, name: str) -> Daemon:
    arguments = ("run", "--learner", scene.address, "--name", name, "--metrics", f"127.0.0.1:{page}")
    return scene.launch.start(module, *arguments, *ALLOWED)
