"""``python -m tests.simulation SEEDS [EVENTS]``: many bad worlds, one per seed; prints the story of any that breaks."""

from __future__ import annotations

import sys

from tests.simulation.world import Broken, World, bad


def main(seeds: int, events: int) -> int:
    """0 if no promise was broken."""
    broken = 0
    for seed in range(seeds):
        world = World(seed, bad(seed))
        try:
            world.run(events)
            world.calm(60.0)
            world.check_alive()
        except Broken as error:
            broken += 1
            print(error, file=sys.stderr)
        except AssertionError:
            print(f"seed {seed}", file=sys.stderr)
            raise
    print(f"{seeds} worlds, {broken} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000))
