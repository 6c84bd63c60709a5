"""What a person asks of a run that goes on and cannot have: refused before anything is written, and nothing is lost."""

from __future__ import annotations

from tests.loopback.lives.test_curricula import QUICK
from tests.loopback.system import Launcher
from tests.loopback.test_usage import refused


def test_an_optimizer_that_cannot_go_on_is_refused_and_the_run_goes_on_without_it(launch: Launcher) -> None:
    optimizer = ("--set", "learner.optimizer=rmsprop_paper")
    words = ("--resume", "--run-dir", "run", "--actors", 1, "--http", "off", "--until-steps", 400)
    assert launch.learner(*QUICK, *optimizer, "--run-dir", "run", "--until-steps", 200).wait() in (0, 3)
    before = {path.name: path.read_bytes() for path in (launch.folder / "run").glob("*") if path.is_file()}
    said = refused(launch.command("learner", "run", *words, "--set", "learner.optimizer=lion"))
    assert "learner.optimizer = 'lion': the run goes on from the optimizer state of 'rmsprop_paper'" in said
    assert {path.name: path.read_bytes() for path in (launch.folder / "run").glob("*") if path.is_file()} == before
    again = launch.learner(*words, "--set", "learner.credit=3")
    assert again.wait() in (0, 3), again.story()
    assert again.event("settings_changed")["changed"] == {"learner.credit": [2, 3]}
    assert again.event("started")["epoch"] == 2
