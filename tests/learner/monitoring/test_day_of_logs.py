"""A day of what both daemons say to a container's log, at the settings that ship, in virtual time: under 5 MB."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from actor.events import Announce as ActorAnnounce
from actor.events import Effect as ActorEffect
from learner.config import learner_settings
from learner.durability.checkpoint_schedule import CheckpointSchedule
from learner.events import Announce, CheckpointWritten
from learner.monitoring.console import Console
from learner.monitoring.summary import RunSummary, summarize
from learner.progress import LEARNT, Progress
from protocol.process.stdio import json_line
from tests.actor.test_state import Actor, active, dialling
from tests.learner.books import join, learner_state, trained

DAY_S = 86_400
MOST_BYTES = 5_000_000
RUN = Path("/var/lib/farflung/runs/LunarLander-v3-0/checkpoints")
LEARNT_SO_FAR = {
    **dict.fromkeys(LEARNT, -0.00123456),
    "metrics": {f"metric_{number}": 0.123456 for number in range(8)},
}


class Log(io.StringIO):
    """What a container's runtime keeps, counted and not kept."""

    taken = 0

    def write(self, text: str) -> int:
        self.taken += len(text.encode())
        return len(text)


def summaries(env_steps_per_s: float) -> Iterator[RunSummary]:
    """A day of a large run that never ends, a second apart, each number as long as it gets."""
    state = learner_state(trained([123.456, -234.567]))
    join(state, "local-0", 0.0)
    state.training_since = 0.0
    first = summarize(state, 0.0)
    for second in range(DAY_S):
        yield replace(
            first,
            now_s=float(second),
            wall_s=second + 0.123,
            env_steps=int(second * env_steps_per_s),
            env_steps_per_s=123456.789,
            updates_per_s=1234.567,
            return_best_mean=-123.456,
            episodes=10_000_000 + second,
            version=100_000_000 + second,
            lag_count=100_000_000 + second,
            lag_sum_updates=100_000_000_000 + second,
            received_bytes=1_000_000_000_000 + second,
            sent_bytes=1_000_000_000_000 + second,
            useful_actors=123,
            noise_scale_env_steps=123456.789,
        )


def learner_day(env_steps_per_s: float) -> int:
    """Bytes of a learner's lines."""
    log, progress = Log(), Progress()
    console = Console(json=True, stream=log, limit=1_000_000)
    schedule = CheckpointSchedule(learner_settings({}), progress, 0.0)
    for summary in summaries(env_steps_per_s):
        console.refresh(summary, LEARNT_SO_FAR)
        progress.version, now = summary.version, summary.now_s
        if schedule.due(now) and schedule.order(now):
            path = RUN / f"checkpoint-{progress.version:012d}.safetensors"
            for told in schedule.written(CheckpointWritten(progress.version, path), now + 0.5):
                assert isinstance(told, Announce)
                console.event(told.event, told.fields)
    console.close()
    return log.taken


@pytest.mark.parametrize("env_steps_per_s", [0.0, 30.0, 3000.0, 300_000.0])
def test_a_day_of_a_learners_log(env_steps_per_s: float) -> None:
    assert 1_000_000 < learner_day(env_steps_per_s) < MOST_BYTES


def actor_lines(effects: Iterable[ActorEffect]) -> int:
    """Bytes that an actor logs of these."""
    told = [effect for effect in effects if isinstance(effect, ActorAnnounce)]
    return sum(len(json_line({"event": each.event, "actor": "rack7-me", **each.fields, "why": "no"})) for each in told)


def actor_day(actor: Actor, *, heard: bool) -> int:
    """Bytes of an actor's lines. heard: its learner is there all day."""
    total = 0
    for second in range(1, DAY_S):
        if heard:
            actor.alive_until(float(second))
        total += actor_lines(actor.tick(float(second), env_steps=second))
    return total


def test_a_day_of_an_actors_log() -> None:
    assert actor_day(active(), heard=True) == 0  # beside its first lines
    assert 1000 < actor_day(dialling(), heard=False) < 20_000  # nobody is there
