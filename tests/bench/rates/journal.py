"""What a journal costs: ``python -m tests.bench.rates.journal [SEEDS]``. Whole runs with and without one, in turns.

Environment steps per second of CartPole-v1 and LunarLander-v3 up to a fixed number of steps, two actors and the learner
on this machine, and for each run with a journal whether ``learner replay --verify`` finds the same bits.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RUNS = (("cartpole", 250_000), ("lunarlander", 150_000))
DURABILITIES = ("checkpoint", "journal")


def main(seeds: int) -> None:
    """Prints one JSON line for each run, and the ratios."""
    for experiment, steps in RUNS:
        rates: dict[str, list[float]] = {durability: [] for durability in DURABILITIES}
        for seed in range(seeds):
            for durability in DURABILITIES[:: 1 if seed % 2 else -1]:  # neither is always the first
                with tempfile.TemporaryDirectory(prefix="farflung-bench-") as folder:
                    result = _run(experiment, steps, seed, durability, Path(folder) / "run")
                rates[durability].append(result["env_steps_per_s"])
                print(
                    json.dumps({"experiment": experiment, "seed": seed, "durability": durability, **result}), flush=True
                )
        ratios = [kept / plain for kept, plain in zip(rates["journal"], rates["checkpoint"], strict=True)]
        told = {"experiment": experiment, "ratio_median": statistics.median(ratios), "ratios": ratios}
        print(json.dumps(told), flush=True)


def _run(experiment: str, steps: int, seed: int, durability: str, folder: Path) -> dict[str, Any]:
    limits = ("--seed", seed, "--until-steps", steps, "--until-return", 1e9)
    settings = ("--set", f"learner.durability={durability}", "--set", "learner.checkpoint_interval_s=5")
    _farflung("run", experiment, "--json", "--http", "off", "--run-dir", folder, *limits, *settings)
    found = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    result = {name: found[name] for name in ("env_steps", "version", "wall_s", "lag_mean_updates")}
    result["env_steps_per_s"] = found["env_steps"] / found["wall_s"]
    if durability == "journal":
        verified = _farflung("replay", folder, "--verify")
        told = json.loads(verified.stdout.splitlines()[-1])
        result |= {name: told[name] for name in ("compared", "differing", "updates")}
        result["verified"] = verified.returncode == 0
        result["journal_bytes"] = sum(path.stat().st_size for path in (folder / "journal").iterdir())
    return result


def _farflung(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "learner", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
