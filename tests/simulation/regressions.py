"""Worlds that once broke a promise, whole, so that they stay the same when ``bad`` draws otherwise."""

from __future__ import annotations

import json
import traceback
from pathlib import Path

import msgspec

from tests.simulation.plot import Plot
from tests.simulation.world import Broken, World

KEPT = Path(__file__).with_name("regressions.jsonl")


class Regression(msgspec.Struct, frozen=True):
    """A world, how many events of it were bad, and how long a calm followed. found: what it broke."""

    seed: int
    plot: Plot
    events: int
    calm_s: float
    found: str = ""


def play(regression: Regression) -> str | None:
    """The story of the promise that it breaks; None if it breaks none."""
    world = World(regression.seed, regression.plot)
    try:
        world.run(regression.events)
        world.calm(regression.calm_s)
        world.check_alive()
        world.rest()
        world.check_rested()
        world.check_history()
    except Broken as broken:
        return str(broken)
    except Exception:
        return f"seed {regression.seed}, t = {world.now:.3f} s, it crashed\n{traceback.format_exc()}"
    return None


def kept() -> list[Regression]:
    """All that were ever found."""
    lines = KEPT.read_text().splitlines() if KEPT.exists() else []
    return [msgspec.convert(json.loads(line), Regression) for line in lines]


def keep(regression: Regression, found: str) -> None:
    """Adds one."""
    whole = msgspec.structs.replace(regression, found=found)
    with KEPT.open("a", encoding="utf-8") as file:
        file.write(json.dumps(msgspec.to_builtins(whole)) + "\n")  # unlike msgspec's, it can say infinity
