"""How far a run is: steps, episodes, verdicts, bytes, and whether its goal is reached. Pure. Plain counters.

These are the only books: metrics, `/status`, the terminal and `result.json` all read them.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from learner.config import LearnerSettings
from protocol.messages import Losses, Report

MAX_STEPS = (1 << 53) - 1  # what a snapshot's counter holds (WIRE.md, section 3)
WINDOW = 100  # episodes in the mean that decides whether a task is solved, as in the literature
SAVED = (  # counters that live through a checkpoint, beside the rulings
    "env_steps",
    "episodes",
    "sessions_granted",
    "evaluators_granted",
    "evaluations",
    "bytes_up",
    "bytes_down",
    "gradient_bytes_up",
    "snapshots",
)
LAG_BUCKETS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)  # upper bounds, in updates


@dataclass(slots=True)
class Lags:
    """Staleness of judged gradients as a histogram: how many updates lay between its weights and its application."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(LAG_BUCKETS) + 1))
    total: int = 0
    count: int = 0
    largest: int = 0

    def observe(self, lag_updates: int) -> None:
        """Counts one gradient."""
        index = next((i for i, bound in enumerate(LAG_BUCKETS) if lag_updates <= bound), len(LAG_BUCKETS))
        self.buckets[index] += 1
        self.total += lag_updates
        self.count += 1
        self.largest = max(self.largest, lag_updates)

    @property
    def mean(self) -> float:
        """Mean lag in updates, 0 before the first gradient."""
        return self.total / self.count if self.count else 0.0


@dataclass(slots=True)
class Progress:
    """Counters of one run. Those in SAVED live through a checkpoint; the others count this process's life."""

    env_steps: int = 0  # environment steps that admitted reports told
    episodes: int = 0
    updates: int = 0  # gradients applied = version of θ
    rulings: Counter[str] = field(default_factory=Counter)  # "applied" or the reason of the drop
    faults: Counter[str] = field(default_factory=Counter)  # messages refused before any ruling, by reason
    sessions_granted: int = 0  # to actors that train
    evaluators_granted: int = 0  # sessions of actors that evaluate
    sessions_lost: int = 0  # of actors that trained, ended by silence
    bytes_up: int = 0  # received on the links, headers included
    bytes_down: int = 0  # sent on the links; the weight stream counts once per message
    gradient_bytes_up: int = 0  # of bytes_up, in messages that carried a gradient
    snapshots: int = 0
    math_s: float = 0.0  # time that the math thread worked
    lags: Lags = field(default_factory=Lags)
    losses: Losses = field(default_factory=Losses)  # of the newest report
    scores: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    lengths: deque[int] = field(default_factory=lambda: deque(maxlen=WINDOW))
    best_mean: float = float("-inf")
    evaluations: int = 0  # scores that evaluating actors sent
    evaluated_best_mean: float | None = None  # highest mean score whose θ is on disk; None before the first
    evaluated_best_version: int | None = None  # of that θ

    def record(self, report: Report) -> None:
        """Takes in what an actor told of its rollout. Steps stop at MAX_STEPS, so that a snapshot can say them."""
        self.env_steps = min(self.env_steps + report.env_steps, MAX_STEPS)
        self.losses = report.losses
        for episode in report.episodes:
            self.episodes += 1
            self.scores.append(episode.score)
            self.lengths.append(episode.length)
            if len(self.scores) == WINDOW:
                self.best_mean = max(self.best_mean, self.return_mean or self.best_mean)

    @property
    def return_mean(self) -> float | None:
        """Mean return of the last 100 episodes (of fewer, while there are fewer); None before the first."""
        return sum(self.scores) / len(self.scores) if self.scores else None

    def reached(self, until_return: float | None) -> bool:
        """Whether a full window of episodes has the mean return asked for."""
        mean = self.return_mean
        return until_return is not None and mean is not None and len(self.scores) == WINDOW and mean >= until_return

    def saved(self) -> dict[str, int | float]:
        """What a checkpoint keeps."""
        counts: dict[str, int | float] = {name: getattr(self, name) for name in SAVED}
        if self.evaluated_best_mean is not None and self.evaluated_best_version is not None:
            counts["evaluated_best_mean"] = self.evaluated_best_mean
            counts["evaluated_best_version"] = self.evaluated_best_version
        return counts | {f"ruling.{outcome}": count for outcome, count in self.rulings.items()}

    @classmethod
    def restored(cls, saved: dict[str, int | float], version: int) -> Progress:
        """The counters that a checkpoint kept; the window of episodes starts empty, as those were another life's."""
        progress = cls(updates=version)
        for name, value in saved.items():
            if name.startswith("ruling."):
                progress.rulings[name.removeprefix("ruling.")] = int(value)
            elif name == "evaluated_best_mean":
                progress.evaluated_best_mean = float(value)
            elif name in SAVED or name == "evaluated_best_version":
                setattr(progress, name, int(value))
        progress.rulings["applied"] = max(version, progress.rulings["applied"])  # counted before the last batch
        return progress


def learning_rate(settings: LearnerSettings, env_steps: int) -> float:
    """The rate after so many environment steps: straight down to its floor over anneal_steps, then level."""
    if settings.anneal == "none":
        return settings.learning_rate
    left = max(0.0, 1.0 - env_steps / settings.anneal_steps)
    return settings.learning_rate * (settings.anneal_floor + (1.0 - settings.anneal_floor) * left)
