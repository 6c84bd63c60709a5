"""A thousand actors with keys of their own: all at once after a restart, and what they cost a learner.

Light actors in a few processes, each with its own connections and its own CURVE key, on a learner with default
settings. The loop is closed: each sends its next gradient as soon as verdict and weights permit. First eight do alone.
"""

from __future__ import annotations

import signal
import statistics
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from learner.security.keyring import LIST, Authorized, read_list, write_list
from protocol.errors import STALE
from protocol.transport.keys import read_pair, write_pair
from protocol.transport.learner_sockets import new_pair
from tests.faults import bars
from tests.faults.bars import Record
from tests.faults.scene import Options, Scene, descriptors, processor_s, require, rss, until, watched
from tests.loopback.system import Daemon, Launcher

PROCESSES, FEW = 4, 8
RATE = 1e9  # gradients a second that each would make: what its permits let it send, at once
TICK_S = 0.25  # of a light actor among hundreds
CALM_S, MEASURED_S = 5.0, 20.0
ADMITTED_S, LAG_S = 30.0, 0.25
APPLIED_PER_S = 320.0  # four fifths of a gradient from each in 2.5 s
SCRAPES, SCRAPE_S, SERIES = 20, 0.05, 400


def drill(options: Options) -> Record:
    """All of it."""
    with TemporaryDirectory(prefix="farflung-keys-") as folder:
        keys = Path(folder) / "keys"
        each = options.peers // PROCESSES
        names = [f"p{process}-{number}" for process in range(PROCESSES) for number in range(each)]
        with Launcher(Path(folder)) as launch:
            assert launch.command("learner", "keys", "new", "p0", "--keys", keys).wait() == 0
        _authorize(keys, [*names, *(f"few-{number}" for number in range(FEW))])
        with Scene(keys=keys) as scene:
            scene.start().event("started")
            bare = rss(scene.learner.pid)
            few = scene.light("few", "--count", FEW, "--rate", RATE, "--skim", "--keys", keys)
            require(lambda: _members(scene) == FEW, "eight are in")
            alone = _measured(scene)
            few.signal(signal.SIGTERM)
            few.wait()
            began = time.monotonic()
            rest = ("--count", each, "--rate", RATE, "--tick", TICK_S, "--skim", "--keys", keys)
            peers = [scene.light(f"p{process}", *rest) for process in range(PROCESSES)]
            require(lambda: _members(scene) == len(names), "all are in for the first time", 120.0)
            first_s = time.monotonic() - began
            crowd = _measured(scene)
            scrape_s, series = _scraped(scene)
            held, open_ = rss(scene.learner.pid), descriptors(scene.learner.pid)
            came_s, restart_s = _restarted(scene, peers, len(names))
            again = rss(scene.learner.pid)
            after = _measured(scene)
    seen = {"few": alone, "all": crowd, "after": after}
    return bars.record(
        [
            bars.at_most("s from the restarted learner's first word until all were admitted", max(came_s), ADMITTED_S),
            bars.exactly("of them admitted", len(came_s), len(names)),
            bars.at_most("s, p99 of the loop's answers", crowd.answer_s, LAG_S),
            bars.at_most("s, p99 of the loop's answers after the restart", after.answer_s, LAG_S),
            bars.at_least("gradients/s that are applied", crowd.per_s, APPLIED_PER_S),
            bars.at_most("s, a scrape of its page, median", statistics.median(scrape_s), SCRAPE_S),
            bars.at_most("series on that page", series, SERIES),
        ],
        peers=len(names),
        came_s=[round(bars.percentile(came_s, share) or 0.0, 2) for share in (0.01, 0.1, 0.5, 0.9, 0.99)],
        came_in_second=[sum(int(at) == second for at in came_s) for second in range(int(max(came_s)) + 1)],
        restart_s=restart_s,
        first_s=first_s,
        **{f"{name}_{what}": value for name, each in seen.items() for what, value in asdict(each).items()},
        kb_for_each_peer=(held - bare) / len(names) / 1e3,
        kb_for_each_peer_after=(again - bare) / len(names) / 1e3,
        descriptors=open_,
        scrape_longest_ms=1e3 * max(scrape_s),
    )


def _authorize(keys: Path, names: Sequence[str]) -> None:
    """A pair for each name, as `learner keys new` makes them, at once."""
    learner = read_pair(keys / "p0.key").learner
    pairs = [new_pair(name, learner) for name in names]
    for pair in pairs:
        write_pair(keys / f"{pair.name}.key", pair)
    write_list(keys / LIST, read_list(keys / LIST) | {pair.public: Authorized(pair.name) for pair in pairs})


def _members(scene: Scene) -> int:
    return int((scene.status() or {"actors": 0})["actors"])


@dataclass(frozen=True, slots=True)
class Measured:
    """Gradients a second that are applied; the time within which 99 of 100 questions were answered; what share of the
    gradients was refused for its age; the learner's processor time for each that was applied.
    """

    per_s: float
    answer_s: float
    stale: float
    each_s: float


def _measured(scene: Scene) -> Measured:
    time.sleep(CALM_S)
    spent_s = processor_s(scene.learner.pid)
    with watched(scene.page) as seen:
        time.sleep(MEASURED_S)
    spent_s = processor_s(scene.learner.pid) - spent_s
    (began, first), (ended, last) = seen.status[0], seen.status[-1]
    ruled = {outcome: count - first["rulings"].get(outcome, 0) for outcome, count in last["rulings"].items()}
    stale = sum(ruled.get(reason, 0) for reason in STALE) / max(1, sum(ruled.values()))
    applied = last["version"] - first["version"]
    answer_s = bars.percentile(seen.answers_s, 0.99) or float("inf")
    return Measured(applied / (ended - began), answer_s, stale, spent_s / max(1, applied))


def _scraped(scene: Scene) -> tuple[list[float], int]:
    """Seconds of each scrape, a second apart as from several Prometheus, and how many series there are."""
    took_s, page = [], b""
    for _ in range(SCRAPES):
        time.sleep(1.0)
        began = time.monotonic()
        with urllib.request.urlopen(f"http://127.0.0.1:{scene.page}/metrics", timeout=30.0) as answer:
            page = answer.read()
        took_s.append(time.monotonic() - began)
    return took_s, sum(bool(line) and not line.startswith(b"#") for line in page.splitlines())


def _restarted(scene: Scene, peers: Sequence[Daemon], count: int) -> tuple[list[float], float]:
    """Seconds from the learner's first word to each welcome, and how long it was away."""
    scene.learner.kill()
    killed = time.monotonic()
    epoch = int(scene.start().event("started")["epoch"])
    began = time.monotonic()

    def welcomes() -> list[float]:
        said = [each for peer in peers for each in peer.said("welcomed") if each["epoch"] == epoch]
        return list({each["actor"]: each["at"] - began for each in said}.values())

    until(lambda: len(welcomes()) >= count, 90.0, 0.5)
    return welcomes() or [float("inf")], began - killed
