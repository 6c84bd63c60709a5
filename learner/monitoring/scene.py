"""A run at one moment as a terminal's live view shows it, gathered. Pure: reads the state; ``now`` is an argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from learner.monitoring.bottleneck import Bottleneck, Cause
from learner.monitoring.history import Point
from learner.monitoring.status import Sampler, fleet_states, limit_of
from learner.monitoring.summary import RunSummary
from learner.state import LearnerState


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run is. page: address of its page, None without. bound: where actors of other machines dial."""

    run_dir: str = ""
    page: str | None = None
    bound: Sequence[str] = ()


NO_LIMIT = Bottleneck(Cause.UNKNOWN, "")


@dataclass(frozen=True, slots=True)
class Scene:
    """until_steps: the run's limit in environment steps. states: actors of each state, as the page names them.

    points: the curve, oldest first. solved: the target was reached.
    """

    summary: RunSummary
    place: Place = Place()
    env: str = ""
    seed: int = 0
    epoch: int = 1
    until_steps: int | None = None
    solved: bool = False
    limit: Bottleneck = NO_LIMIT
    states: Mapping[str, int] = field(default_factory=dict)
    points: Sequence[Point] = ()


def scene_of(state: LearnerState, summary: RunSummary, sampler: Sampler, place: Place) -> Scene:
    """All of it, as of the summary's moment. Shares nothing that changes."""
    now = summary.now_s
    return Scene(
        summary=summary,
        place=place,
        env=state.manifest.env,
        seed=state.manifest.seed,
        epoch=state.address.epoch,
        until_steps=state.experiment.run.until_steps,
        solved=state.shutdown.solved,
        limit=limit_of(state, now, sampler),
        states=fleet_states(state, now),
        points=list(sampler.history.points),
    )
