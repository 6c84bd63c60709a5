"""Sides that stand still, are killed or get no weights while the other lives, over real sockets."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.loopback.system import ENDLESS, Daemon, Launcher, Said, Test, free_ports

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="stops processes by signals")

SETTINGS = (*ENDLESS, "--set", "learner.heartbeat_s=0.2", "--set", "learner.silence_s=2")


@dataclass(frozen=True, slots=True)
class Served:
    """A learner that the tests of this file share, one behind the other."""

    learner: Daemon
    address: str
    launcher: Launcher

    def light(self, name: str) -> Daemon:
        """An actor, once a gradient of it was applied."""
        actor = self.launcher.start("tests.faults.peers.light", self.address, name)
        actor.event("accepted")
        return actor


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Launcher(tmp_path_factory.mktemp("x")) as launcher:
        learner = launcher.learner("--actors", 0, "--bind", "tcp://127.0.0.1:0", "--run-dir", "run", *SETTINGS)
        yield Served(learner, learner.event("started")["bound"][0], launcher)


def named(name: str) -> Test:
    def is_it(said: Said) -> bool:
        return bool(said["actor"] == name)

    return is_it


def goes_on(actor: Daemon, after: int) -> None:
    """More of its gradients are applied than were when it next tells."""
    held = actor.event("books", after=after)
    actor.event("books", lambda said: said["acked"] > held["acked"], after=after)


def test_a_learner_that_stood_still_is_missed_and_found_again(served: Served) -> None:
    actor = served.light("patient")
    served.learner.signal(signal.SIGSTOP)
    assert actor.event("learner_lost")["why"] == "silence"
    since = len(actor.events)
    served.learner.signal(signal.SIGCONT)
    goes_on(actor, since)  # in the session that it had: nobody is missed by who was not there
    assert actor.said("went_back") == []
    actor.kill()


def test_an_actor_that_stood_still_comes_back_by_itself(served: Served) -> None:
    actor, since = served.light("sleeper"), len(served.learner.events)
    actor.signal(signal.SIGSTOP)
    assert served.learner.event("actor_left", named("sleeper"), after=since)["why"] == "silent"
    heard = len(actor.events)
    actor.signal(signal.SIGCONT)
    served.learner.event("actor_joined", named("sleeper"), after=since)
    actor.event("welcomed", after=heard)
    goes_on(actor, heard)
    actor.kill()


def test_a_killed_actor_is_forgotten_and_the_one_in_its_place_is_not(served: Served) -> None:
    """Both have one name; what tells them apart is their session."""
    served.light("worker").kill()
    since = len(served.learner.events)
    replacement = served.light("worker")
    assert served.learner.event("actor_left", named("worker"), after=since)["why"] == "silent"
    goes_on(replacement, len(replacement.events))
    replacement.kill()


def test_a_stream_that_never_comes_ruins_no_policy(launch: Launcher) -> None:
    """All gradients at one θ, hundreds in a second, once left one that always does the same: a return of 9 for good."""
    address = f"tcp://127.0.0.1:{free_ports()}"
    launch.start("tests.late_stream", 3600, "actor", "run", "--learner", address, "--name", "remote")
    words = ("--actors", 0, "--bind", address, "--until-return", 150, "--until-steps", 150_000)
    often = ("--set", "learner.heartbeat_s=0.1")  # which say what was published and did not come
    learner = launch.learner(*words, *often)
    assert learner.wait() == 0, learner.story()
    assert learner.event("finished")["lag_max_updates"] <= 64
