"""``python -m tests.deploy.drill [ACT...]``: real daemons, a real Prometheus, and every alert provoked.

An act begins with a learner and actors that are well, under which no alert may fire, and then does something to them.
Rules run in fast motion (``server.py``). Writes DRILL.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.machine import ROOT
from tests.bench.store import Store
from tests.deploy import rules
from tests.deploy.drill import report
from tests.deploy.drill.server import FACTOR, LONG_FACTOR, SCRAPE_S, Prometheus
from tests.faults.scene import JOURNAL, SPRY, Scene, require
from tests.loopback.system import Daemon, free_ports

PATIENCE_S = 120.0  # for an alert, and for whatever else must happen
QUIET_S = 25.0  # under which nothing may fire before anything is done; two of FewActors' and of NoActors' patience
HEARD_S = 4 * SCRAPE_S  # until what is so has been scraped and judged
STOPPED_S = 25.0
LEARNT = 150.0  # mean return of CartPole that there is something to lose of
LIGHT_RATE = 15  # gradients a second of one
PAGES = 4  # of actors, in one act at most
WELL_S = 180.0  # of the healthy run: an hour of real rules
RESULTS = ROOT / "bench-results" / "deploy"

Row = dict[str, Any]


@dataclass(slots=True)
class Stage:
    """A scene with a Prometheus that looks at it. rows: what was seen."""

    scene: Scene
    prometheus: Prometheus
    ports: list[int]  # of actors' pages, for as many as the act may start
    trouble: Path  # a file: while it is there, the learner's disk fails
    began: float = 0.0
    rows: list[Row] = field(default_factory=list)
    named: set[str] = field(default_factory=set)  # alerts that were waited for, or may come along
    actors: list[Daemon] = field(default_factory=list)

    def join(self, module: str = "actor") -> Daemon:
        """One more actor, with a page. To start takes it longer than three minutes do in fast motion."""
        self.named.add("ActorWithoutSession")
        page = f"127.0.0.1:{self.ports[len(self.actors)]}"
        arguments = ("run", "--learner", self.scene.address, "--name", f"a{len(self.actors)}", "--metrics", page)
        self.actors.append(self.scene.launch.start(module, *arguments))
        return self.actors[-1]

    def light(self) -> Daemon:
        """One more actor with a real link and no simulator: where only the link matters, it leaves the cores free."""
        self.actors.append(self.scene.light(f"l{len(self.actors)}", "--rate", LIGHT_RATE))
        return self.actors[-1]

    def quiet(self, seconds: float = QUIET_S) -> None:
        """Training, and nothing fires."""
        self.trains()
        time.sleep(seconds)
        fired = self.prometheus.fired(self.began)
        assert not fired, f"fired with nothing done: {fired}"

    def fires(self, name: str, how: str, since: float | None = None, along: tuple[str, ...] = ()) -> None:
        """Waits for one. since: when its cause began, now if None. along: others that this may set off too."""
        since = since or time.time()
        self.named |= {name, *along}
        require(lambda: name in self.prometheus.fired(since), f"{name} fires", PATIENCE_S)
        after_s = self.prometheus.fired(since)[name] - since
        self.rows.append({"alert": name, "how": how, "after_s": round(max(0.0, after_s), 1)})
        print(json.dumps(self.rows[-1]), flush=True)

    def trains(self) -> float:
        """Until gradients are applied, and Prometheus has heard of it; since when."""
        require(lambda: (self.scene.status() or {"version": 0})["version"] > 10, "it trains")
        time.sleep(HEARD_S)
        self.began = time.time()
        return self.began

    def mend(self, name: str) -> None:
        """The trouble is over, and the alert ends."""
        self.trouble.unlink()
        self.ends(name)

    def ends(self, name: str) -> None:
        """And for its end, once the cause is gone."""
        took_s = require(lambda: name not in self.prometheus.firing(), f"{name} ends", PATIENCE_S)
        self.rows[-1]["ended_after_s"] = round(took_s, 1)


@contextlib.contextmanager
def staged(
    *settings: str, light: bool = False, ready: bool = True, hours_by: int = FACTOR, **start: Any
) -> Iterator[Stage]:
    """A learner and two actors, well for a while unless ``ready`` is False. start: as of ``Scene.start``."""
    with Scene(*SPRY, "learner.checkpoint_interval_s=3", *settings) as scene:
        pages = [free_ports() for _ in range(PAGES)]
        targets = {"farflung-learner": [scene.page], "farflung-actor": pages}
        with Prometheus(scene.folder, targets, hours_by) as prometheus:
            stage = Stage(scene, prometheus, pages, trouble=scene.folder / "trouble")
            scene.start(*start.pop("more", ()), **start, FAILPOINTS_WHILE=str(stage.trouble))
            for _ in range(2):
                stage.light() if light else stage.join()
            if ready:
                stage.quiet()
            yield stage


# acts


def well() -> list[Row]:
    """Trains LunarLander with two actors: no alert, clean pages, and something to see on every panel."""
    with staged(*JOURNAL, ready=False, experiment="lunarlander", more=("--until-return", 300)) as stage:
        stage.quiet(WELL_S)
        empty = [where for where, expr in asked() if not stage.prometheus.series(expr)]
        lint = [linted(port) for port in (stage.scene.page, *stage.ports[:2])]
        return [{"well_s": WELL_S, "empty": empty, "lint": lint, "asked": len(list(asked()))}]


def fleet() -> list[Row]:
    """One of two actors is killed, then the other, and then the learner under two new ones."""
    with staged() as stage:
        stage.actors[0].kill()
        stage.fires("FewActors", "one of two actors killed")
        stage.actors[1].kill()
        stage.fires("NoActors", "the other one too")
        stage.join()
        stage.join()
        stage.ends("NoActors")
        stage.scene.learner.kill()
        since = time.time()
        stage.fires("LearnerDown", "the learner killed", since)
        stage.fires("ActorWithoutSession", "the same, of its actors", since)
        return judged(stage)


def checkpoints() -> list[Row]:
    """The disk is full for checkpoints, and then it is not."""
    with staged(light=True, failpoint="checkpoint.write=full") as stage:
        stage.trouble.touch()
        since = time.time()
        stage.fires("CheckpointFailing", "checkpoint.write: no space left on device", since)
        stage.fires("CheckpointOld", "the same, for longer", since)
        stage.mend("CheckpointOld")
        return judged(stage)


def journal() -> list[Row]:
    """The disk refuses records, and then it does not."""
    with staged(*JOURNAL, "learner.on_journal_failure=continue", failpoint="journal.write=broken") as stage:
        stage.trouble.touch()
        stage.fires("JournalBroken", "journal.write: input/output error", along=("CheckpointFailing",))
        stage.mend("JournalBroken")
        return judged(stage)


def hanging() -> list[Row]:
    """A sync of the journal does not come back, and then it does."""
    with staged(*JOURNAL, light=True, failpoint="journal.sync=hang") as stage:
        stage.trouble.touch()
        since = time.time()
        along = ("CheckpointOld", "ActorsStarved", "QueueGrowing")
        stage.fires("LearnerStuck", "journal.sync does not end", since, along)
        stage.fires("TrainingStalled", "the same, for longer", since)
        stage.mend("TrainingStalled")
        return judged(stage)


def slow() -> list[Row]:
    """Each sync of the journal takes a second and a half."""
    with staged(*JOURNAL, failpoint="journal.sync=slow") as stage:
        stage.trouble.touch()
        since = time.time()
        stage.fires("QueueGrowing", "journal.sync takes 1.5 s each time", since, along=("CheckpointOld",))
        stage.fires("ActorsStarved", "the same: actors wait for permits", since)
        return judged(stage)


def vandals() -> list[Row]:
    """A third actor sends what is no number."""
    with staged(light=True) as stage:
        since = time.time()
        stage.join("tests.deploy.drill.vandal")
        stage.fires("RunDiverged", "a third actor sends NaN", since)
        stage.fires("ActorsQuarantined", "the same, after nine of them", since, along=("GradientsRefused",))
        return judged(stage)


def quota() -> list[Row]:
    """Actors may send far less than they make."""
    with staged("learner.quota_gradients_per_s=2", light=True, ready=False) as stage:
        since = stage.trains()
        along = ("ActorsStarved", "TrainingStalled")
        stage.fires("GradientsRefused", "learner.quota_gradients_per_s=2", since, along)
        return judged(stage)


def late() -> list[Row]:
    """Weights are published every five seconds only, and actors are to go on meanwhile."""
    with staged("learner.publish_interval_s=5", "learner.credit_lag=1000", light=True, ready=False) as stage:
        since = stage.trains()
        along = ("ReturnCollapsed", "ActorsStarved", "GradientsRefused", "NoNewBest")
        stage.fires("StalenessHigh", "learner.publish_interval_s=5 and credit_lag=1000", since, along)
        return judged(stage)


def stops() -> list[Row]:
    """The learner stands still for half of each second."""
    with staged(light=True) as stage:
        since = time.time()
        while time.time() < since + STOPPED_S:
            for number in (signal.SIGSTOP, signal.SIGCONT):
                stage.scene.learner.signal(number)
                time.sleep(0.5)
        stage.fires("LoopLate", "the learner stopped for half of each second", since, along=("ActorsStarved",))
        return judged(stage)


def collapse() -> list[Row]:
    """Two that poison join two that have learnt, and no bound on norms refuses them: the return falls, and no new best
    comes.
    """
    settings = ("actor.codec=i8", "learner.norm_factor=none", "learner.anneal=none")
    with staged(*settings, ready=False, hours_by=LONG_FACTOR) as stage:
        require(lambda: _number(stage, "farflung_learner_return_best_mean") > LEARNT, "it has learnt something")
        stage.quiet()
        since = time.time()
        stage.join("tests.faults.peers.poisoner")
        stage.join("tests.faults.peers.poisoner")
        along = ("StalenessHigh", "GradientsRefused", "ActorsQuarantined")
        stage.fires("ReturnCollapsed", "two of four actors send the opposite, ten times as long", since, along)
        stage.fires("NoNewBest", "the same, for longer", since)
        return judged(stage)


ACTS: dict[str, Callable[[], list[Row]]] = {
    act.__name__: act
    for act in (well, fleet, checkpoints, journal, hanging, slow, vandals, quota, late, stops, collapse)
}


def judged(stage: Stage) -> list[Row]:
    """The rows, and that nothing fired but what was named."""
    strange = set(stage.prometheus.fired(stage.began)) - stage.named
    assert not strange, f"fired too: {sorted(strange)}"
    return stage.rows


def _number(stage: Stage, expr: str) -> float:
    found = stage.prometheus.series(expr)
    return found[0][1] if found else float("-inf")


def asked() -> Iterator[tuple[str, str]]:
    """What must have an answer while all is well: panels, recorded series, and each metric that an alert looks at."""
    for where, expr in rules.expressions():
        if where not in rules.alerts():
            yield where, rules.asked(expr, interval=f"{round(4 * SCRAPE_S)}s")
            continue
        for name in sorted(set(re.findall(r"\b(?:farflung_[a-z_]+|farflung:[a-z0-9_:]+)", expr))):
            yield f"{where}: {name}", name


def linted(port: int) -> str:
    """What promtool minds about a page; nothing as a rule."""
    promtool = shutil.which("promtool")
    assert promtool is not None
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        text = str(page.read(), "utf-8")
    asked = [promtool, "check", "metrics"]
    done = subprocess.run(asked, input=text, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def main() -> int:
    """Runs what is asked for; returns the exit code."""
    parser = argparse.ArgumentParser("python -m tests.deploy.drill", description=__doc__)
    parser.add_argument("acts", nargs="*", metavar="ACT", help=f"of {', '.join(ACTS)}; default: all")
    asked_for = parser.parse_args()
    if unknown := sorted(set(asked_for.acts) - set(ACTS)):
        parser.error(f"no such act: {', '.join(unknown)}; there are {', '.join(ACTS)}")
    failed = False
    for name in asked_for.acts or ACTS:
        try:
            record = Store(RESULTS, name).add({"act": name}, lambda name=name: {"rows": ACTS[name]()})  # type: ignore[misc]
            print(json.dumps(record), flush=True)
        except AssertionError as error:
            failed = True
            print(f"{name}: {error}", flush=True)
    report.write(RESULTS, Path(__file__).parents[1] / "DRILL.md", tuple(ACTS))
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
