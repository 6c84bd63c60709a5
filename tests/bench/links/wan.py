"""Actors behind thin links: ``python -m tests.bench.links.wan EXPERIMENT KBPS DELAY_MS SECONDS [TABLE.KEY=VALUE ...]``.

A learner on loopback and two actors that reach it over one thin link, with ``codec = "auto"``. Prints one JSON object,
of the second half of the time: what a gradient took on its way up and a version on its way down to each actor, headers
included, how much of the link was used, and how late gradients were.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.farflung import progress
from tests.bench.links.thinlink import Direction, ThinLink
from tests.bench.machine import start

ACTORS, HOST = 2, "127.0.0.2"
FOLLOWING = ("learner.optimizer=preconditioned", "actor.codec=auto")
WARM = 0.5  # share of the time in which actors come to know their link
READY_S, POLL_S = 60.0, 0.1


async def measure(name: str, kbps: float, delay_ms: float, seconds: float, settings: Sequence[str]) -> dict[str, Any]:
    """One run of so many seconds."""
    with tempfile.TemporaryDirectory(prefix="farflung-wan-") as folder:
        run_dir, port = Path(folder) / "run", _two_free_ports()
        overrides = [part for each in (*FOLLOWING, *settings) for part in ("--set", each)]
        place = ["--actors", "0", "--bind", f"tcp://127.0.0.1:{port}", "--run-dir", str(run_dir), "--http", "off"]
        children = [start(["learner", "run", name, "--until-return", "1e9", *overrides, *place, "--json"])]
        up, down = (Direction(kbps * 125.0, delay_ms / 1e3) for _ in range(2))
        try:
            async with ThinLink(HOST, (port, port + 1), up, down):
                await _started(run_dir)
                dial = ["actor", "run", "--learner", f"tcp://{HOST}:{port}"]
                children += [start(dial, number) for number in range(ACTORS)]
                await asyncio.sleep(WARM * seconds)
                before, carried = progress(run_dir)[-1], (up.carried, down.carried)
                await asyncio.sleep((1.0 - WARM) * seconds)
                after = progress(run_dir)[-1]
                bytes_up, bytes_down = up.carried - carried[0], down.carried - carried[1]
        finally:
            for child in children[::-1]:
                child.terminate()
                child.wait(20)
    return _told(before, after, bytes_up, bytes_down, kbps * 125.0)


def _told(before: dict[str, Any], after: dict[str, Any], up: int, down: int, rate: float) -> dict[str, Any]:
    updates, spent_s = max(1, after["version"] - before["version"]), after["wall_s"] - before["wall_s"]
    return {
        "bytes_up_per_gradient": up / updates,
        "bytes_down_per_version_and_actor": down / updates / ACTORS,
        "share_of_link_up": up / spent_s / rate,
        "share_of_link_down": down / spent_s / rate,
        "updates_per_s": updates / spent_s,
        "env_steps_per_s": (after["env_steps"] - before["env_steps"]) / spent_s,
        "lag_mean_updates": after["lag_mean_updates"],
        "refused": after["refused"],
        "return_mean": after["return_mean"],
        "env_steps": after["env_steps"],
    }


def _two_free_ports() -> int:
    """The first of two: the weight stream takes the next one."""
    while True:
        with socket.socket() as link, socket.socket() as stream:
            link.bind(("127.0.0.1", 0))
            port: int = link.getsockname()[1]
            try:
                stream.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


async def _started(run_dir: Path) -> None:
    path = run_dir / "progress.jsonl"
    for _ in range(round(READY_S / POLL_S)):
        if path.exists() and '"started"' in path.read_text(encoding="utf-8"):
            return
        await asyncio.sleep(POLL_S)
    raise SystemExit("the learner did not start")


if __name__ == "__main__":
    _, experiment, rate_kbps, late_ms, duration_s, *more = sys.argv
    told = asyncio.run(measure(experiment, float(rate_kbps), float(late_ms), float(duration_s), more))
    print(json.dumps(told))
