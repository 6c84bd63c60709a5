"""``python -m tests.simulation [SEEDS] [EVENTS]``: many bad worlds and some crowds, one per seed, on every core.

A world that breaks a promise prints its story and is added to ``regressions.jsonl``, which the tests play from then on.
``--from SEED`` begins there instead of at 0; ``--crowds N`` plays that many worlds of a thousand actors besides.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from multiprocessing import get_context

from tests.simulation.regressions import Regression, keep, play
from tests.simulation.world import bad, crowd


def main(arguments: argparse.Namespace) -> int:
    """0 if no promise was broken."""
    if arguments.seeds + arguments.crowds < 1:
        raise SystemExit("no world was asked for, so none is known to keep its promises")
    first, last = arguments.begin, arguments.begin + arguments.seeds
    worlds = [Regression(seed, bad(seed), arguments.events, 60.0) for seed in range(first, last)]
    worlds += [Regression(seed, crowd(seed), 60_000, 60.0) for seed in range(first, first + arguments.crowds)]
    began, broken = time.monotonic(), 0
    with get_context("spawn").Pool(os.cpu_count()) as pool:
        for world, story in zip(worlds, pool.imap(play, worlds, chunksize=1), strict=True):
            if story is not None:
                broken += 1
                print(story, file=sys.stderr, flush=True)
                keep(world, story.splitlines()[0])
    local = sum(world.plot.steps_locally for world in worlds)
    print(f"{len(worlds)} worlds, {local} of them with local steps, {broken} broken, {time.monotonic() - began:.0f} s")
    return 1 if broken else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("seeds", type=int, nargs="?", default=1000)
    parser.add_argument("events", type=int, nargs="?", default=1500)
    parser.add_argument("--from", dest="begin", type=int, default=0)
    parser.add_argument("--crowds", type=int, default=0)
    sys.exit(main(parser.parse_args()))
