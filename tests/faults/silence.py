"""Thirty seconds in which packets are dropped and nobody is told; and twenty in which one side stands still.

The learner and one light actor in two network namespaces, real TCP between them. Needs Linux, root and iptables.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.links.far import able, namespaces
from tests.bench.links.relay import ADDRESSES
from tests.faults import bars
from tests.faults.bars import Record
from tests.faults.scene import SPRY, Options, Scene, require, until
from tests.loopback.system import Daemon, Launcher

TIMES = 20
KNOWN_S, BACK_S = 5.0, 5.0
CALM_S = 3.0  # between two faults


def drill(options: Options) -> Record:
    """All of it, each kind of fault so many times."""
    assert able(), "network namespaces need Linux and root"
    assert shutil.which("iptables"), "dropped packets need iptables"
    times = options.times or TIMES
    with contextlib.ExitStack() as stack:
        near, far = stack.enter_context(namespaces(far=False))
        scene = stack.enter_context(Scene(*SPRY, within=far, host=ADDRESSES[1]))
        scene.start().event("started")
        launch = stack.enter_context(Launcher(scene.folder, near))
        acks = scene.folder / "acks"
        light = launch.start("tests.faults.peers.light", scene.address, "light", "--acks", acks)
        scene.light("neighbour").event("accepted")  # on the learner's side: the weight stream goes on meanwhile
        require(lambda: _accepted(acks, 0), "the actor is heard")
        trial = Trial(scene.learner, light, acks)
        cuts = [trial.of(lambda: _cut((near, far)), 30.0, "both") for _ in range(times)]
        stops = [trial.of(lambda: _stopped(light), 20.0, "learner") for _ in range(times)]
        halts = [trial.of(lambda: _stopped(scene.learner), 20.0, "actor") for _ in range(times)]
    found, figures = [], {}
    for name, outcomes in (("dropped", cuts), ("actor stopped", stops), ("learner stopped", halts)):
        known, back, stream = (list(column) for column in zip(*outcomes, strict=True))
        found.append(bars.at_most(f"{name}: s until who is left knows, longest", max(known), KNOWN_S))
        found.append(bars.at_most(f"{name}: s from its end to an accepted gradient, longest", max(back), BACK_S))
        found.append(bars.at_most(f"{name}: s from its end to the weight stream, longest", max(stream), BACK_S))
        figures[name.replace(" ", "_") + "_back_s"] = [round(each, 2) for each in back]
        figures[name.replace(" ", "_") + "_stream_s"] = [round(each, 2) for each in stream]
    return bars.record(found, times=times, **figures)


class Trial:
    """One learner and one actor that things happen to."""

    def __init__(self, learner: Daemon, light: Daemon, acks: Path) -> None:
        self._learner, self._light, self._acks = learner, light, acks

    def of(
        self, fault: Callable[[], contextlib.AbstractContextManager[None]], lasts_s: float, who: str
    ) -> tuple[float, float, float]:
        """Seconds until who is left knows, then from the fault's end to a gradient that counts and to the stream."""
        time.sleep(CALM_S)
        heard, said = len(self._learner.events), len(self._light.events)
        with fault():
            began = time.monotonic()
            waits = [(self._learner, "actor_left", heard)] * (who != "actor")
            waits += [(self._light, "learner_lost", said)] * (who != "learner")
            known_s = [until(lambda w=wait: _said(*w), lasts_s) for wait in waits]  # type: ignore[misc]
            time.sleep(max(0.0, began + lasts_s - time.monotonic()))
        ended, before = time.monotonic(), self._acks.stat().st_size
        back_s = until(lambda: _accepted(self._acks, before), every_s=0.02)
        flowing_s = until(lambda: _said(self._light, "stream_flows", said))
        flows = [each["at"] - ended for each in self._light.events[said:] if each["event"] == "stream_flows"]
        known = float("inf") if None in known_s else sum(each or 0.0 for each in known_s)
        return known, float("inf") if back_s is None else back_s, flows[-1] if flowing_s is not None else float("inf")


def _said(daemon: Daemon, event: str, after: int) -> bool:
    return any(said["event"] == event for said in daemon.events[after:])


def _accepted(acks: Path, start: int) -> bool:
    """Whether a gradient that was sent after so many bytes of the file was applied."""
    lines = acks.read_bytes()[start:].decode().splitlines() if acks.exists() else []
    sent, applied = (
        {tuple(words[1:3]) for words in map(str.split, lines) if words[:1] == [what]} for what in ("sent", "applied")
    )
    return bool(sent & applied)


@contextlib.contextmanager
def _cut(namespaces: tuple[str, str]) -> Iterator[None]:
    """Each side drops what comes in: what a kernel drops on its way out it tries again at once."""
    rules = list(zip(namespaces, reversed(ADDRESSES), strict=True))
    for rule in rules:
        _tables("-A", *rule)
    try:
        yield
    finally:
        for rule in rules:
            _tables("-D", *rule)


def _tables(what: str, namespace: str, source: str) -> None:
    command = ["ip", "netns", "exec", namespace, "iptables", what, "INPUT", "-s", source, "-j", "DROP"]
    subprocess.run(command, check=True)


@contextlib.contextmanager
def _stopped(daemon: Daemon) -> Iterator[None]:
    daemon.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        daemon.signal(signal.SIGCONT)
