"""What a simulated run is made of, and how a seed picks it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from learner.optim.aggregation import TAKEN
from protocol.codecs.registry import CODECS
from protocol.transport.memory import Faults


@dataclass(frozen=True)
class Plot:
    """What a run is made of. Rates are events per virtual second in the whole world.

    exact: the numbers are small dyadic ones and the codec loses nothing, so the books must balance to the bit.
    sync_s: most that one write to disk takes. disk_fails: chance of each operation of the disk. disk_kills: chance that
    the learner dies in one. local_steps: most updates that an actor sends together, having them in its weights at once;
    with 1 each gradient is a message. power: share of the learner's deaths that take what was not synced with them.
    skewed: every process has a clock of its own.
    """

    actors: int = 3
    faults: Faults = field(default_factory=lambda: Faults(delay_s=0.01, jitter_s=0.05))
    codec: str = "f32"
    settings: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    local_steps: int = 1
    work_s: float = 0.3
    tick_s: float = 0.25
    math_s: float = 0.02
    sync_s: float = 0.0
    disk_s: float = 0.2
    disk_fails: float = 0.0
    disk_kills: float = 0.0
    segment_bytes: int = 1 << 24
    power: float = 0.0
    partition_rate: float = 0.0
    actor_kill_rate: float = 0.0
    actor_leave_rate: float = 0.0
    learner_kill_rate: float = 0.0
    pause_rate: float = 0.0
    clock_step_rate: float = 0.0
    skewed: bool = False

    @property
    def exact(self) -> bool:
        return self.codec == "f32"

    @property
    def steps_locally(self) -> bool:
        """Where the learner applies what it is sent, as it is sent."""
        return self.local_steps > 1 and self.settings.get("optimizer") != "adam"


def bad(seed: int) -> Plot:
    """A plot as bad as its seed says."""
    random = Random(seed)
    faults = Faults(
        delay_s=random.choice((0.0, 0.02, 0.3)),
        jitter_s=random.choice((0.0, 0.1, 1.0)),
        loss=random.choice((0.0, 0.02, 0.1)),
        duplicate=random.choice((0.0, 0.05, 0.3)),
        reorder=random.choice((0.0, 0.1)),
    )
    optimizer = random.choice(("preconditioned", "preconditioned", "preconditioned", "adam"))
    rules = ("none", "scale", "compensate", "gap")[: 4 if optimizer == "preconditioned" else 3]
    durability = random.choice(("checkpoint", "journal", "journal"))
    aggregation = random.choice(("none", "none", "none", "mean", "median"))
    actors = random.choice((1, 2, 3, 6))
    aggregating = aggregation != "none"
    local_steps = Random(f"{seed} local steps").choice((1, 1, 1, 2, 3, 5, 8))
    codecs = ("f32", *sorted(TAKEN)) if aggregating else ("f32", "f32", "topk_i8", *CODECS)
    return Plot(
        actors=actors,
        faults=faults,
        codec=random.choice(codecs),
        settings={
            "optimizer": optimizer,
            "credit": random.choice((1, 2, 4)),
            "most_credit": random.choice((1, 3, 16)),
            "credit_lag": random.choice((2, 32, 32)),
            "silence_s": random.choice((2.0, 6.0)),
            "staleness_rule": "none" if aggregating else random.choice(rules),
            "full_lag_updates": 2,
            "aggregation": aggregation,
            "aggregate_window": random.choice((3, 8)),
            "aggregate_least": random.choice((1, None)) if aggregating and actors >= 3 else 1 if aggregating else None,
            "quota_gradients_per_s": random.choice((None, None, 1.0)),
            "quota_kbps": random.choice((None, None, 4.0)),
            "max_lag_updates": random.choice((4, 1000)),
            "max_lag_s": random.choice((1.0, 60.0)),
            "publish_interval_s": random.choice((0.0, 0.0, 1.0)),
            "downlink_kbps": random.choice((None, None, 0.5, 2.0, "auto")),
            "target_interval_steps": random.choice((None, 20)),
            "checkpoint_interval_s": 3.0,
            "checkpoints_kept": random.choice((1, 3)),
            "durability": durability,
            "journal_bytes": random.choice((8_000, 1 << 30)),
            "on_journal_failure": Random(f"{seed} journal").choice(("stop", "continue")),
        },
        local_steps=local_steps,
        work_s=0.3 if local_steps == 1 else 0.1,  # so that messages are as frequent
        sync_s=random.choice((0.0, 0.01, 1.0)),
        disk_fails=random.choice((0.0, 0.0, 0.05)),
        disk_kills=random.choice((0.0, 0.002)),
        segment_bytes=random.choice((2_000, 1 << 24)),
        power=random.choice((0.0, 0.5)),
        partition_rate=random.choice((0.0, 0.1)),
        actor_kill_rate=random.choice((0.0, 0.05)),
        actor_leave_rate=random.choice((0.0, 0.05)),
        learner_kill_rate=random.choice((0.0, 0.05)),
        pause_rate=random.choice((0.0, 0.05)),
        clock_step_rate=random.choice((0.0, 0.02)),
        skewed=random.choice((False, True)),
    )


def crowd(seed: int, actors: int = 1000) -> Plot:
    """A large fleet in bad weather: one learner, three deaths of actors a second, partitions and pauses."""
    return Plot(
        actors=actors,
        faults=Faults(delay_s=0.02, jitter_s=0.3, loss=0.01, duplicate=0.01, reorder=0.01),
        codec="topk_i8",
        settings={
            "silence_s": 6.0,
            "publish_interval_s": 1.0,
            "checkpoint_interval_s": 5.0,
            "durability": "journal",
            "credit_lag": 32,
        },
        work_s=20.0,
        tick_s=1.0,
        sync_s=0.05,
        power=0.5,
        partition_rate=2.0,
        actor_kill_rate=3.0,
        actor_leave_rate=0.5,
        learner_kill_rate=Random(seed).choice((0.0, 0.03)),
        pause_rate=2.0,
        skewed=True,
    )
