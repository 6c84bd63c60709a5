"""An actor behind a long thin link: ``python -m tests.bench.links.far EXPERIMENT SEED [TABLE.KEY=VALUE ...]``.

Two network namespaces, the learner in one and one actor in the other, real TCP between them. The same run twice, both
to STEPS environment steps: over a link of 1 Mbit/s up, 4 Mbit/s down and 100 ms each way (``relay.py``), and over a
pair of virtual Ethernet devices that bound nothing. Prints one JSON object: the steps at which each had reached the
experiment's target, and far over near; speeds are of the time after the first WARM_S. Needs Linux and root; says so
and ends with code 0 where it cannot.
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

from learner.launch.experiment_file import load
from protocol.shipped import named
from tests.bench.farflung import WINDOW, progress
from tests.bench.links.relay import ADDRESSES
from tests.bench.machine import start

FAR = ("1000", "4000", "100")  # kbit/s up and down, ms each way
PORT = 5555
LIMIT_S, WARM_S, PARTING_S = 300.0, 4.0, 20.0
STEPS = 600_000  # past the target
FOLLOWING = ("actor.codec=auto", "run.until_return=1e9", f"run.until_steps={STEPS}")


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
    """One run of STEPS environment steps, or of LIMIT_S."""
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
        points = progress(run_dir)
    wanted = ("env_steps", "wall_s", "version", "lag_mean_updates", "rulings", "received_bytes", "sent_bytes")
    warm = [point for point in points if point["wall_s"] > WARM_S]
    steps, spent_s = (warm[-1][field] - warm[0][field] for field in ("env_steps", "wall_s"))
    solved = solved_at(points, target_of(name))
    return {"solved_at": solved, **{field: result[field] for field in wanted}, "env_steps_per_s": steps / spent_s}


def target_of(name: str) -> float:
    """The mean return at which the experiment counts as solved."""
    target = load(named(name), [], {}).run.until_return
    if target is None:
        raise SystemExit(f"{name} names no run.until_return, so nothing tells when it is solved")
    return target


def solved_at(points: Sequence[dict[str, Any]], target: float) -> int | None:
    """Environment steps of the first progress line whose mean of WINDOW episodes is at the target; None: none is."""
    reached = (p["env_steps"] for p in points if p["episodes"] >= WINDOW and p["return_mean"] >= target)
    return next(reached, None)


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
    """Both runs, and how they compare."""
    _, name, seed, *settings = sys.argv
    if not able():
        print("skipped: network namespaces and TUN devices need Linux and root")
        return
    far, near = (measure(name, seed, settings, far=far) for far in (True, False))
    solved = far["solved_at"] and near["solved_at"]
    ratios = {
        "speed_share": far["env_steps_per_s"] / near["env_steps_per_s"],
        "steps_ratio": far["solved_at"] / near["solved_at"] if solved else None,
    }
    print(json.dumps({"far": far, "near": near} | ratios))


if __name__ == "__main__":
    main()
