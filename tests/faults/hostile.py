"""A long attack on real learners: ``python -m tests.faults.hostile [RATE]``; RATE: messages a second, 0 for no bound.

Prints what was refused, the learner's memory, what honest ones got done with and without it in the same run, and
whether θ is what it is in a run without. Attacker and honest ones share this machine's cores, so a rate that takes one
of two cores takes it from the actors too. Linux, for /proc. Exit code 1 where a bar is missed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from protocol.errors import Reason
from tests.faults.peers.feed import Feed
from tests.loopback.system import ENDLESS, ROOT, Daemon, Launcher

FRAMES, MUTATIONS = 100_000, 1000
QUIET_S = 15.0  # of honest work alone, before and after the attack
CHUNK = 20  # updates between two looks at the clock
LEAST_SHARE, MOST_GROWTH = 0.8, 2.0


class Figures:
    """What one run shows. Rates in updates a second, memory in MiB."""

    def __init__(self, learner: Daemon, work: Callable[[], int], rate: float, marker: Path) -> None:
        """work: does some honest work and says how many updates there are then."""
        self._learner, self._work = learner, work
        address = learner.event("started")["bound"][0]
        self._rate_during(2.0)  # warm
        first = self._rate_during(QUIET_S)
        self.before_mb, self.updates_before = self._peak_mb(), work()
        Path(f"/proc/{learner.pid}/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
        command = ["tests.faults.peers.attack", address, str(FRAMES), str(MUTATIONS), str(rate or "inf"), str(marker)]
        began = time.monotonic()
        attacker = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, stdout=subprocess.PIPE)
        at = work()
        while attacker.poll() is None:
            done = work()
        self.attack_s = time.monotonic() - began
        self.attacked = (done - at) / self.attack_s
        out, _ = attacker.communicate()
        assert attacker.returncode == 0, "the attacker was not answered"
        self.refused: dict[str, int] = json.loads(out)
        self.peak_mb = self._peak_mb()
        self.quiet = (first + self._rate_during(QUIET_S)) / 2
        self.unpickled = marker.exists()

    def show(self, name: str) -> bool:
        """Prints them; whether they are within the bars."""
        share, growth = self.attacked / self.quiet, self.peak_mb / self.before_mb
        rates = f"{self.quiet:.0f} updates/s alone, {self.attacked:.0f} attacked ({share:.0%})"
        print(f"{name}: {rates} for {self.attack_s:.0f} s")
        print(f"  peak memory {self.before_mb:.0f} MiB before, {self.peak_mb:.0f} MiB attacked ({growth:.2f} times)")
        print(f"  {sum(self.refused.values())} refusals: {self.refused}", flush=True)
        documented = set(self.refused) <= set(Reason)
        return share >= LEAST_SHARE and growth <= MOST_GROWTH and documented and not self.unpickled

    def _rate_during(self, seconds: float) -> float:
        began, first = time.monotonic(), self._work()
        while time.monotonic() - began < seconds:
            last = self._work()
        return (last - first) / (time.monotonic() - began)

    def _peak_mb(self) -> float:
        status = Path(f"/proc/{self._learner.pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def learner_of(launch: Launcher, folder: str, actors: int) -> Daemon:
    """On a port of loopback."""
    where = ("--bind", "tcp://127.0.0.1:0", "--run-dir", folder)
    return launch.learner("--actors", actors, *where, *ENDLESS, "--until-steps", 10**9)


def fed(launch: Launcher, rate: float) -> bool:
    """One that sends fixed updates and waits for each verdict; afterwards the same without an attack."""
    learner = learner_of(launch, "attacked", 0)
    with Feed(learner.event("started")["bound"][0]) as feed:

        def work() -> int:
            feed.feed(CHUNK)
            return feed.sent

        within = Figures(learner, work, rate, launch.folder / "unpickled").show("one feeder")
        theta, version = feed.theta()
    alone = learner_of(launch, "alone", 0)
    with Feed(alone.event("started")["bound"][0]) as feed:
        feed.feed(version)
        same = feed.theta() == (theta, version)
    print(f"  θ after {version} updates is {'the same to the bit' if same else 'ANOTHER'} as without the attack")
    return within and same and _ended(learner) and _ended(alone)


def trained(launch: Launcher, rate: float) -> bool:
    """Two local actors that train."""
    learner = learner_of(launch, "trained", 2)
    learner.event("progress", lambda said: said["version"] > 100)

    def work() -> int:
        time.sleep(0.25)
        return int(learner.said("progress")[-1]["version"])

    within = Figures(learner, work, rate, launch.folder / "unpickled").show("two local actors")
    return within and _ended(learner)


def _ended(learner: Daemon) -> bool:
    """Whether it ends as it should and complained of nothing."""
    learner.process.terminate()
    return learner.wait() == 0 and not learner.lines


def main(rate: str = "1000") -> int:
    """0 within all bars."""
    with tempfile.TemporaryDirectory(prefix="x") as folder, Launcher(Path(folder)) as launch:
        good = [fed(launch, float(rate)), trained(launch, float(rate))]
    print("within the bars" if all(good) else "NOT within the bars")
    return int(not all(good))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
