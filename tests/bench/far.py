"""An actor at the other end of a long thin link: ``python -m tests.bench.far EXPERIMENT SEED [TABLE.KEY=VALUE ...]``.

Two network namespaces, the learner in one and one actor in the other, real TCP between them. The same run twice: over a
link of 1 Mbit/s up, 4 Mbit/s down and 100 ms each way, and over one without bounds. Prints one JSON object. Needs Linux
and root; says so and ends with code 0 where it cannot.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.bench.farflung import progress
from tests.bench.machine import start
from tests.bench.relay import ADDRESSES

LINKS = {"far": (1_000.0, 4_000.0, 100.0), "near": (0.0, 0.0, 0.0)}  # kbit/s up and down, ms each way
PORT = 5555
LIMIT_S = 300.0
FOLLOWING = ("actor.codec=auto", "learner.optimizer=addition")


@contextlib.contextmanager
def namespaces(link: tuple[float, float, float]) -> Iterator[tuple[str, str]]:
    """The actor's and the learner's, with the link between them."""
    names = (f"ffactor{os.getpid()}", f"fflearner{os.getpid()}")
    for name in names:
        subprocess.run(["ip", "netns", "add", name], check=True)
    command = [sys.executable, "-m", "tests.bench.relay", *names, *map(str, link)]
    relay = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        if relay.stdout is None or relay.stdout.readline().strip() != "up":
            raise SystemExit("the link did not come up")
        yield names
    finally:
        relay.kill()
        relay.wait()
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)


def measure(name: str, seed: str, link: tuple[float, float, float], settings: Sequence[str]) -> dict[str, Any]:
    """One run, until it is solved or LIMIT_S are over."""
    with tempfile.TemporaryDirectory(prefix="farflung-far-") as folder, namespaces(link) as (near, far):
        run_dir = Path(folder) / "run"
        overrides = [part for each in (*FOLLOWING, *settings) for part in ("--set", each)]
        address = f"tcp://{ADDRESSES[1]}:{PORT}"
        place = [
            "--actors",
            "0",
            "--bind",
            address,
            "--insecure",
            "--run-dir",
            str(run_dir),
            "--http",
            "off",
            "--seed",
            seed,
        ]
        learner = start(["learner", "run", name, *overrides, *place, "--json"], within=far)
        actor = start(["actor", "run", "--learner", address], within=near)
        try:
            learner.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            learner.terminate()
        finally:
            actor.terminate()
            actor.wait(20)
            learner.wait(20)
        result = json.loads((run_dir / "result.json").read_text(encoding="utf-8"))
        points = progress(run_dir)
    wanted = ("solved", "env_steps", "wall_s", "updates", "staleness_mean", "rulings", "bytes_up", "bytes_down")
    told = {field: result[field] for field in wanted}
    return told | {"env_steps_per_s": result["env_steps"] / result["wall_s"], "progress_lines": len(points)}


def main() -> None:
    """Both runs, and how much of the unbounded one's speed the other has."""
    _, name, seed, *settings = sys.argv
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or not Path("/dev/net/tun").exists():
        print("skipped: network namespaces and TUN devices need Linux and root")
        return
    told = {link: measure(name, seed, numbers, settings) for link, numbers in LINKS.items()}
    share = told["far"]["env_steps_per_s"] / told["near"]["env_steps_per_s"]
    print(json.dumps(told | {"share": share}))


if __name__ == "__main__":
    main()
