"""An actor whose link flows while its weight stream does not."""

from __future__ import annotations

from tests.loopback.system import Launcher, free_ports


def test_a_stream_that_never_comes_ruins_no_policy(launch: Launcher) -> None:
    """All gradients at one θ, hundreds in a second, once left one that always does the same: a return of 9 for good."""
    address = f"tcp://127.0.0.1:{free_ports()}"
    launch.start("tests.late_stream", 3600, "actor", "run", "--learner", address, "--name", "remote")
    words = ("--actors", 0, "--bind", address, "--until-return", 150, "--until-steps", 150_000)
    often = ("--set", "learner.heartbeat_s=0.1")  # which say what was published and did not come
    learner = launch.learner(*words, *often)
    assert learner.wait() == 0, learner.story()
    assert learner.event("finished")["lag_max_updates"] <= 64
