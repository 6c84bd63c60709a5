"""Many minutes of everything: kills, stops, a thin link whose connections break. Does anything grow?

Two real actors that nobody touches, one that is killed and replaced, one that is stopped now and then, and a light one
behind a thin link that is cut; the learner keeps a journal. Sampled are the memory and the descriptors of the learner
and of an untouched actor.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import threading
import time
from collections.abc import Iterator

from tests.bench.links.thinlink import Direction, ThinLink
from tests.faults import bars
from tests.faults.actor_kills import Slot
from tests.faults.bars import Record, slope
from tests.faults.scene import JOURNAL, SPRY, Options, Scene, descriptors, require, rss
from tests.loopback.system import Daemon

MINUTES, EVERY_S, SAMPLE_S = 30.0, 5.0, 1.0
STOPPED_S, CUT_S = 6.0, 3.0  # longer than a peer may be silent, and shorter
HOST, BYTES_PER_S, DELAY_S = "127.0.0.2", 250_000.0, 0.05
WARM = 0.4  # share of the time in which caches fill
MB_AN_HOUR, DESCRIPTORS = 30.0, 8.0


class Link:
    """A thin link in a thread of its own. cut: ends all that goes through it, and lets nothing through for so long."""

    def __init__(self, scene: Scene) -> None:
        port = int(scene.address.rpartition(":")[2])
        self.address = f"tcp://{HOST}:{port}"
        self._ports = (port, port + 1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._up: ThinLink | None = None

    def __enter__(self) -> Link:
        self._thread.start()
        self._raise()
        return self

    def __exit__(self, *_: object) -> None:
        self._lower()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)

    def cut(self, seconds: float) -> None:
        """As a router that is switched off and on."""
        self._lower()
        time.sleep(seconds)
        self._raise()

    def _raise(self) -> None:
        self._up = ThinLink(HOST, self._ports, *(Direction(BYTES_PER_S, DELAY_S) for _ in range(2)))
        asyncio.run_coroutine_threadsafe(self._up.__aenter__(), self._loop).result(10.0)

    def _lower(self) -> None:
        async def lower(link: ThinLink) -> None:
            await link.__aexit__()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        if self._up is not None:
            asyncio.run_coroutine_threadsafe(lower(self._up), self._loop).result(10.0)
            self._up = None


def drill(options: Options) -> Record:
    """All of it."""
    minutes, chance = options.minutes or MINUTES, random.Random(options.seed)
    faults = {"kill": 0, "stop": 0, "cut": 0}
    with Scene(*SPRY, *JOURNAL) as scene, contextlib.ExitStack() as stack:
        scene.start().event("started")
        untouched, stopped = (scene.launch.actor(scene.address, name) for name in ("untouched", "stopped"))
        killed = Slot(scene, 0, real=True)
        killed.start(0)
        link = stack.enter_context(Link(scene))
        far = scene.launch.start("tests.faults.peers.light", link.address, "far", "--rate", 5)
        require(lambda: int((scene.status() or {"actors": 0})["actors"]) == 4, "all are here")
        with sampled(scene.learner, untouched) as samples:
            until = time.monotonic() + 60.0 * minutes
            while time.monotonic() < until:
                time.sleep(EVERY_S)
                what = chance.choice(list(faults))
                faults[what] += 1
                if what == "kill":
                    killed.kill()
                    killed.start(0)
                elif what == "stop":
                    stopped.signal(signal.SIGSTOP)
                    time.sleep(STOPPED_S)
                    stopped.signal(signal.SIGCONT)
                else:
                    link.cut(CUT_S)
        alive = all(each.process.poll() is None for each in (scene.learner, untouched, stopped, far))
        status = scene.status() or {"version": 0, "faults": {}}
    return _judged(samples, minutes, alive, {"faults": faults, "version": status["version"]})


Sample = tuple[float, int, int, int, int]  # minutes; bytes and descriptors of the learner, then of the actor


@contextlib.contextmanager
def sampled(learner: Daemon, actor: Daemon) -> Iterator[list[Sample]]:
    """Once a second, in the background."""
    samples: list[Sample] = []
    over, began = threading.Event(), time.monotonic()

    def sample() -> None:
        while not over.wait(SAMPLE_S):
            at = (time.monotonic() - began) / 60.0
            found = [count(each.pid) for each in (learner, actor) for count in (rss, descriptors)]
            samples.append((at, *found))  # type: ignore[arg-type]

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join(5.0)


def _judged(samples: list[Sample], minutes: float, alive: bool, figures: Record) -> Record:
    warm = [sample for sample in samples if sample[0] >= WARM * minutes]
    times, *columns = (list(column) for column in zip(*warm, strict=True))
    names = ("learner_mb", "learner_descriptors", "actor_mb", "actor_descriptors")
    units = (1e6, 1.0, 1e6, 1.0)
    an_hour = {
        name: 60.0 * slope(times, column) / unit for name, column, unit in zip(names, columns, units, strict=True)
    }
    held = [bars.exactly("daemons that ended", int(not alive), 0)]
    for name, column, unit in zip(names, columns, units, strict=True):
        if name.endswith("mb"):
            held.append(bars.at_most(f"{name}: rise in an hour, by its slope", an_hour[name], MB_AN_HOUR))
        else:
            tenth = max(1, len(column) // 10)
            rise = max(column[-tenth:]) - max(column[:tenth])
            held.append(bars.at_most(f"{name}: rise from first to last", rise, DESCRIPTORS))
        figures[name] = [column[0] / unit, column[-1] / unit]
        figures[f"{name}_an_hour"] = an_hour[name]
    return bars.record(held, minutes=minutes, **figures)
