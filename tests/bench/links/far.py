"""An actor behind a long thin link: ``python -m tests.bench.links.far EXPERIMENT SEED [TABLE.KEY=VALUE ...]``.

Two network namespaces, the learner in one and one actor in the other, real TCP between them. The same run twice: until
it is solved over a link of 1 Mbit/s up, 4 Mbit/s down and 100 ms each way (``relay.py``), and for NEAR steps over a
pair of virtual Ethernet devices that bound nothing. Prints one JSON object; speeds are of the time after the first
WARM_S. Needs Linux and root; says so and ends with code 0 where it cannot.
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
from tests.bench.links.relay import ADDRESSES
from tests.bench.machine import start

FAR = ("1000", "4000", "100")  # kbit/s up and down, ms each way
PORT = 5555
LIMIT_S, WARM_S, PARTING_S = 300.0, 10.0, 20.0
NEAR = ("run.until_return=1e9", "run.until_steps=500_000")
FOLLOWING = ("actor.codec=auto", "learner.optimizer=preconditioned")


@contextlib.contextmanager
def namespaces(*, far: bool) -> Iterator[tuple[str, str]]:
    """The actor's and the learner's, with the link between them."""
    names = (f"ffactor{os.getpid()}", f"fflearner{os.getpid()}")
    with contextlib.ExitStack() as stack:
        for name in names:
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "del", name)
        if far:
            command = [sys.executable, "-m", "tests.bench.links.relay", *names, *FAR]
            relay = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(relay.kill)
            if relay.stdout is None or relay.stdout.readline().strip() != "up":
                raise SystemExit("the link did not come up")
        else:
            _ip("link", "add", "ffa", "netns", names[0], "type", "veth", "peer", "name", "ffb", "netns", names[1])
            for name, device, address in zip(names, ("ffa", "ffb"), ADDRESSES, strict=True):
                _ip("-n", name, "addr", "add", f"{address}/24", "dev", device)
                for each in ("lo", device):
                    _ip("-n", name, "link", "set", each, "up")
        yield names


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def measure(name: str, seed: str, settings: Sequence[str], *, far: bool) -> dict[str, Any]:
    """One run, until it is solved or LIMIT_S are over."""
    with contextlib.ExitStack() as stack:
        run_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="farflung-far-"))) / "run"
        near_end, far_end = stack.enter_context(namespaces(far=far))
        overrides = [part for each in (*FOLLOWING, *settings) for part in ("--set", each)]
        address = f"tcp://{ADDRESSES[1]}:{PORT}"
        place = ["--actors", "0", "--bind", address, "--insecure", "--run-dir", str(run_dir), "--http", "off"]
        asked = ["learner", "run", name, *overrides, *place, "--seed", seed, "--json"]
        learner = start(asked, within=far_end, stdout=subprocess.DEVNULL)
        stack.callback(_end, learner)
        actor = start(["actor", "run", "--learner", address], within=near_end, stderr=subprocess.DEVNULL)
        stack.callback(_end, actor)
        with contextlib.suppress(subprocess.TimeoutExpired):
            learner.wait(LIMIT_S)
        _end(learner)
        result = json.loads((run_dir / "result.json").read_text(encoding="utf-8"))
        points = [point for point in progress(run_dir) if point["wall_s"] > WARM_S]
    wanted = ("solved", "env_steps", "wall_s", "version", "lag_mean_updates", "rulings", "received_bytes", "sent_bytes")
    steps, spent_s = (points[-1][field] - points[0][field] for field in ("env_steps", "wall_s"))
    return {field: result[field] for field in wanted} | {"env_steps_per_s": steps / spent_s}


def _end(child: subprocess.Popen[str]) -> None:
    """Asked, and killed where that does not help."""
    if child.poll() is None:
        child.terminate()
    try:
        child.wait(PARTING_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def able() -> bool:
    """Whether this process may make a namespace here."""
    name = f"ffprobe{os.getpid()}"
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or not Path("/dev/net/tun").exists():
        return False
    made = subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True).returncode == 0
    if made:
        _ip("netns", "del", name)
    return made


def main() -> None:
    """Both runs, and how much of the unbounded one's speed the other has."""
    _, name, seed, *settings = sys.argv
    if not able():
        print("skipped: network namespaces and TUN devices need Linux and root")
        return
    told = {
        "far": measure(name, seed, settings, far=True),
        "near": measure(name, seed, [*settings, *NEAR], far=False),
    }
    share = told["far"]["env_steps_per_s"] / told["near"]["env_steps_per_s"]
    print(json.dumps(told | {"share": share}))


if __name__ == "__main__":
    main()
