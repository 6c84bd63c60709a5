"""Atari for an hour, one setting: ``python -m tests.learning.defaults.atari [GAME ...]`` measures what is left.

Ours are runs of ``learner run atari --env ALE/GAME-v5`` that are asked to stop after HOUR seconds, one at a time, so
that their seconds count. A frame is one of the emulator's; the policy acts every fourth.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from tests.bench.farflung import Point, train
from tests.bench.store import Record, Store, add_options, at_once, end, origins
from tests.learning.defaults.report import MEASURED
from tests.reference.markdown import table

HOUR, QUARTER = 3_600.0, 900.0
FRAMES_A_STEP, FRAMES = 4, 10_000_000
SEEDS = 3
# After an hour, by ray-project/rl-experiments: the better of A3C with 16 threads, read off the paper's curves, and
# RLlib's A2C with 5 workers and a GPU; and RLlib's IMPALA with 32 workers. Pong is not in it: 20 is 1 below the most.
HOURLY = {"Beamrider": 1_000, "Breakout": 268, "Pong": 20, "Qbert": 1_212, "SpaceInvaders": 518}
IMPALA = {"Beamrider": 3_181, "Breakout": 538, "Qbert": 10_850, "SpaceInvaders": 843}
IDS = {name: f"ALE/{'BeamRider' if name == 'Beamrider' else name}-v5" for name in HOURLY}
HEAD = """# Atari for an hour

Written by `python -m tests.learning.defaults.atari`. `learner run atari --env ALE/GAME-v5` with two actors on this
machine; the same settings for every game, which were chosen on Pong and tried on Boxing. Mean return of the last 100
training episodes, exploration included: median over seeds from 0, and each seed. The agent acts every fourth frame,
without sticky actions.

*To reach* is what others are published with after an hour, on other machines (ray-project/rl-experiments): the better
of A3C with 16 threads and RLlib's A2C with 5 workers and a GPU; for Pong, which is not in it, 20 of at most 21.
*IMPALA* is RLlib's with 32 workers.
"""


def ours(game: str, seed: int, seconds: float) -> Record:
    """One run that ends after so many seconds, or at the setting's own limit."""
    folder = Path(tempfile.mkdtemp(prefix="farflung-learn-"))
    try:
        trained = train(["atari", "--env", IDS[game], "--seed", str(seed)], folder / "run", seconds)
    finally:
        shutil.rmtree(folder)
    kept = {name: trained.result[name] for name in ("return_mean_100", "wall_s", "env_steps", "rulings")}
    return kept | {"curve": trained.curve[:: max(1, len(trained.curve) // 400)] + trained.curve[-1:]}


def at(curve: Sequence[Point], reached: Callable[[Point], bool]) -> float | None:
    """The mean return at the first point of a curve that has come so far; None for a run that did not."""
    return next((point[2] for point in curve if reached(point)), None)


def row(game: str, records: Sequence[Record]) -> tuple[str, ...]:
    """A line for a game of which there are runs."""
    ends = [record["return_mean_100"] for record in records]
    quarter = [at(record["curve"], lambda point: point[1] >= QUARTER) for record in records]
    frames = [at(record["curve"], lambda point: FRAMES_A_STEP * point[0] >= FRAMES) for record in records]
    last = median(ends)
    return (
        game,
        _median(quarter),
        _median(frames),
        f"{last:.4g}",
        f"{HOURLY[game]:,}",
        "at or above" if last >= HOURLY[game] else "below",
        f"{IMPALA[game]:,}" if game in IMPALA else "",
        f"{median(FRAMES_A_STEP * record['env_steps'] for record in records) / 1e6:.1f}",
        f"{median(record['wall_s'] for record in records) / 60.0:.0f}",
        ", ".join(f"{number:.4g}" for number in ends),
    )


def _median(numbers: Sequence[float | None]) -> str:
    reached = [number for number in numbers if number is not None]
    return f"{median(reached):.4g}" if len(reached) == len(numbers) else ""


def write(records: Sequence[Record], folder: Path, note: str = "") -> None:
    """ATARI.md. note: a sentence about these measurements, beneath the head."""
    judged = ("game", "quarter of an hour", "10 M frames", "at the end", "to reach", "ours is", "IMPALA")
    heads = (*judged, "frames, M", "minutes", "each seed")
    by_game = {game: [record for record in records if record["game"] == game] for game in HOURLY}
    lines = [row(game, found) for game, found in by_game.items() if found]
    told = f"{note}Commits measured: {origins(records)}."
    (folder / "ATARI.md").write_text(f"{HEAD}\n{told}\n\n{table(heads, lines)}", encoding="utf-8")


def main() -> int:
    """What is asked for. Exit code 75: runs are left."""
    parser = argparse.ArgumentParser("python -m tests.learning.defaults.atari", description=__doc__)
    parser.add_argument("games", nargs="*", metavar="GAME", help=f"of {', '.join(HOURLY)}; default: all")
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help="from 0")
    parser.add_argument("--seconds", type=float, default=HOUR, metavar="S", help="of one run")
    parser.add_argument("--note", default="", help="a sentence for the report, as on what else the machine did")
    add_options(parser, MEASURED)
    asked = parser.parse_args()
    if unknown := sorted(set(asked.games) - set(HOURLY)):
        parser.error(f"no such game: {', '.join(unknown)}")
    store = Store(asked.results, "atari", end(asked.minutes))
    runs = [
        ({"game": game, "seed": seed, "seconds": asked.seconds}, partial(ours, game, seed, asked.seconds))
        for seed in range(asked.seeds)
        for game in asked.games or HOURLY
    ]
    left = 0 if asked.report else at_once(store, runs, 1)
    found = [record for record in store.read() if record["seconds"] == asked.seconds]
    note = f"{asked.note} " if asked.note else ""
    write(found, Path(__file__).parent if asked.results == MEASURED else asked.results, note)
    return 75 if left else 0


if __name__ == "__main__":
    raise SystemExit(main())
