"""Code of a person's own in the learner's process: what it prints, and what it leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.loopback.system import DEADLINE_S, ROOT, Launcher

HOOK = """
import os
print("imported")
def hear(event):
    print("heard", event["event"])
    if event["event"] == "finished":
        os.system("echo a child")
"""


def test_what_a_hook_prints_does_not_stand_between_events(launch: Launcher) -> None:
    (launch.folder / "noisy.py").write_text(HOOK)
    words = ["--json", "--http", "off", "--actors", "1", "--until-steps", "10"]
    hooked = ["--env", "CartPole-v1", "--allow-module", "noisy", "--set", "learner.on_event=noisy:hear"]
    small = ["--set", "actor.envs=2", "--set", "actor.rollout_steps=4", "--set", "actor.hidden=[4]"]
    ended = subprocess.run(
        [sys.executable, "-m", "learner", "run", *words, *hooked, *small],
        cwd=launch.folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{launch.folder}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert ended.returncode in (0, 3), ended.stderr
    said = [json.loads(line)["event"] for line in ended.stdout.splitlines()]
    assert {"started", "finished"} <= {*said}
    heard = ended.stderr.splitlines()
    assert heard[0] == "imported"
    assert heard[-2:] == ["heard finished", "a child"]
