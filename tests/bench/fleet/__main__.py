"""One run of a fleet in virtual time: ``python -m tests.bench.fleet EXPERIMENT SEED --actors N`` prints JSON.

``seconds`` are virtual, until the last 100 training episodes have the experiment's target as their mean; so is all
other time. ``messages``: with gradients. ``received_bytes``: at the learner, headers included. ``events``: lines that
the learner and the actors' links would have logged, counted; those of workers are on stderr.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from learner.launch.experiment_file import load
from protocol.errors import UserError
from protocol.process.threads import limit_threads
from protocol.shipped import experiment_file
from tests.bench.fleet.costs import Costs, Crew

if TYPE_CHECKING:
    from learner.config import Experiment

CHANGE = "N@S"
USUAL = Costs()


def parser() -> argparse.ArgumentParser:
    """What may be asked."""
    made = argparse.ArgumentParser("python -m tests.bench.fleet", description=__doc__)
    made.add_argument("experiment", help="a shipped name or a TOML file")
    made.add_argument("seed", type=int)
    made.add_argument("settings", nargs="*", metavar="TABLE.KEY=VALUE")
    made.add_argument("--actors", type=_count, required=True, metavar="N", help="from the beginning")
    made.add_argument("--step-ms", type=_positive, default=USUAL.step_ms, help="a step of one environment")
    made.add_argument("--gradient-ms", type=_cost, default=USUAL.gradient_ms, help="a minibatch's gradient")
    made.add_argument("--apply-ms", type=_cost, default=USUAL.apply_ms, help="a message at the learner")
    made.add_argument("--up-ms", type=_cost, default=USUAL.up_ms, help="a message to the learner")
    made.add_argument("--down-ms", type=_cost, default=USUAL.down_ms, help="a message to an actor")
    made.add_argument("--jitter", type=_share, default=USUAL.jitter, help="share by which work takes more or less")
    made.add_argument("--rates", type=_rates, default=(1.0,), metavar="1,0.1,...", help="of actors, over and over")
    made.add_argument("--join", type=_change, action="append", default=[], metavar=CHANGE, help="N more after S s")
    made.add_argument("--leave", type=_change, action="append", default=[], metavar=CHANGE, help="N go after S s")
    made.add_argument(
        "--allow-module", action="append", default=[], metavar="NAME", help="as of actor run (repeatable)"
    )
    return made


def _count(text: str) -> int:
    if (count := int(text)) < 1:
        raise ValueError(text)
    return count


def _cost(text: str) -> float:
    if not 0.0 <= (cost := float(text)) < math.inf:
        raise ValueError(text)
    return cost


def _share(text: str) -> float:
    if (share := _cost(text)) >= 1.0:
        raise ValueError(text)
    return share


def _positive(text: str) -> float:
    if not (value := _cost(text)):
        raise ValueError(text)
    return value


def _rates(text: str) -> tuple[float, ...]:
    return tuple(map(_positive, text.split(",")))


def _change(text: str) -> tuple[int, float]:
    count, _, at_s = text.partition("@")
    return _count(count), _cost(at_s)


def main(arguments: Sequence[str] | None = None) -> None:
    """One run; its end as JSON."""
    made = parser()
    asked = made.parse_intermixed_args(arguments)
    limit_threads(os.environ)  # before numpy, which the rest imports
    from tests.bench.fleet.world import Fleet

    costs = Costs(asked.step_ms, asked.gradient_ms, asked.apply_ms, asked.up_ms, asked.down_ms, asked.jitter)
    crew = Crew(asked.actors, asked.rates, tuple(asked.join), tuple(asked.leave))
    try:
        with Fleet(_experiment(asked), crew, costs, frozenset(asked.allow_module)) as fleet:
            print(json.dumps(fleet.run().answer()))
    except UserError as error:
        made.error(str(error))


def _experiment(asked: argparse.Namespace) -> Experiment:
    """The one that was named, with an end: the run's own limit counts. Raises UserError."""
    file, seed = experiment_file(asked.experiment), f"run.seed={asked.seed}"
    experiment = load(file, [*asked.settings, seed], {})
    if experiment.run.until_return is None and experiment.run.until_steps is None:
        raise UserError("the run would never end: set run.until_return or run.until_steps")
    return experiment


if __name__ == "__main__":
    main()
