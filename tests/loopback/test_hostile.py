"""A short attack on a real learner while one feeds it: all is refused by name, and θ is what it is without."""

from __future__ import annotations

from pathlib import Path

from protocol.errors import Reason
from tests.faults.peers.attack import attack
from tests.faults.peers.feed import Feed
from tests.loopback.system import ENDLESS, Launcher

UPDATES = 30


def fed(launch: Launcher, folder: str, marker: Path | None) -> tuple[bytes, int, dict[str, int]]:
    """θ after so many updates, its version, and what an attack before the last of them was answered."""
    learner = launch.learner("--actors", 0, "--bind", "tcp://127.0.0.1:0", "--run-dir", folder, *ENDLESS)
    address = learner.event("started")["bound"][0]
    refused: dict[str, int] = {}
    with Feed(address) as feed:
        feed.feed(UPDATES // 2)
        if marker is not None:
            refused = attack(address, 500, 3, float("inf"), str(marker))
        feed.feed(UPDATES // 2)
        theta, version = feed.theta()
    learner.process.terminate()
    assert learner.wait() == 0, learner.story()
    assert learner.lines == []
    return theta, version, refused


def test_an_attack_is_refused_by_name_and_leaves_every_bit_as_it_is(launch: Launcher) -> None:
    marker = launch.folder / "unpickled"
    quiet, _, _ = fed(launch, "quiet", None)
    attacked, version, refused = fed(launch, "attacked", marker)
    assert attacked == quiet
    assert version == UPDATES
    assert set(refused) <= set(Reason)
    assert {Reason.MALFORMED_FRAME, Reason.MALFORMED_MESSAGE, Reason.MALFORMED_PAYLOAD} <= set(refused)
    assert not marker.exists()
