"""A run at one moment, for people, pages and progress.jsonl. Pure: reads the state and, for rates, an earlier one."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from learner.monitoring.history import FEW, LONGEST_S, RECENT_S
from learner.monitoring.scaling import scaling
from learner.progress import with_former
from learner.state import LearnerState

STALLED_S = 30.0  # without a new version, while actors train: longer than they take to begin and to collect a rollout


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run at one moment. now_s: monotonic clock. wall_s: since the first actor had weights to step with."""

    now_s: float
    wall_s: float
    stage: str
    env_steps: int
    env_steps_per_s: float
    episodes: int
    return_mean: float | None  # of the last 100 episodes
    return_min: float | None  # of the same episodes
    return_max: float | None
    return_best_mean: float | None  # best mean of a full window
    return_target: float | None  # as run.until_return asks for
    version: int  # of θ: gradients applied
    updates_per_s: float
    refused: int  # gradients
    lag_mean_updates: float  # of all gradients that this life judged by their age
    lag_count: int  # so many; with the sum, the mean between any two summaries follows
    lag_sum_updates: int
    received_bytes: int  # as in result.json
    sent_bytes: int
    bytes_per_gradient: float | None  # all that came up, headers and heartbeats included; as in result.json
    actors: int  # that train
    useful_actors: (
        int | None
    )  # beyond which one more adds less than half of what it adds in proportion; None: not known
    noise_scale_env_steps: float | None  # of learning; None: not known
    evaluators: int
    evaluations: int  # scores that evaluators sent
    evaluated_best_mean: float | None  # highest of them whose θ is on disk
    journal_failure: str | None  # why the journal that the run keeps does not hold what is applied; None while it does
    rates_s: float = 0.0  # seconds of training that rates are means of so far, fading
    arrivals_per_s: float = 0.0  # so often there were more steps than in the summary before

    def fields(self) -> dict[str, object]:
        """For a progress event: rounded, without what only the next summary needs."""
        fields = {key: rounded(value) for key, value in asdict(self).items()}
        del fields["now_s"], fields["wall_s"], fields["rates_s"], fields["arrivals_per_s"]
        return with_former(fields)


def summarize(state: LearnerState, now: float, before: RunSummary | None = None) -> RunSummary:
    """The run as it stands. before: an earlier summary of the same run, from which rates follow."""
    progress = state.progress
    judged, scales = sum(progress.rulings.values()), scaling(state)
    best = progress.return_best_mean
    wall_s = 0.0 if state.training_since is None else now - state.training_since
    rates = _Rates.since(before, now, wall_s)
    return RunSummary(
        now_s=now,
        wall_s=wall_s,
        stage=state.shutdown.stage.value,
        env_steps=progress.env_steps,
        env_steps_per_s=rates.of("env_steps", progress.env_steps),
        episodes=progress.episodes,
        return_mean=progress.return_mean,
        return_min=min(progress.scores, default=None),
        return_max=max(progress.scores, default=None),
        return_best_mean=best if math.isfinite(best) else None,
        return_target=state.experiment.run.until_return,
        version=progress.version,
        updates_per_s=rates.of("version", progress.version, "updates_per_s"),
        refused=judged - progress.rulings["applied"],
        lag_mean_updates=progress.lags.mean,
        lag_count=progress.lags.count,
        lag_sum_updates=int(progress.lags.total),
        received_bytes=progress.received_bytes,
        sent_bytes=progress.sent_bytes,
        bytes_per_gradient=progress.received_bytes / judged if judged else None,
        actors=state.sessions.training,
        useful_actors=None if scales is None else scales.useful_actors,
        noise_scale_env_steps=None if scales is None else scales.noise_scale_env_steps,
        evaluators=state.sessions.evaluating,
        evaluations=progress.evaluations,
        evaluated_best_mean=progress.evaluated_best_mean,
        journal_failure=state.saving.journal_failure,
        rates_s=rates.before_s + rates.passed_s,
        arrivals_per_s=rates.arrivals(progress.env_steps),
    )


@dataclass(frozen=True, slots=True)
class _Rates:
    """Means with fading memory. before_s: what is left of the time that the earlier ones are means of. passed_s: since.

    A life's first rates begin with its training, as the first rollout does, and not with the wait for it.
    """

    before: RunSummary | None
    before_s: float = 0.0
    passed_s: float = 0.0

    @classmethod
    def since(cls, before: RunSummary | None, now: float, wall_s: float) -> _Rates:
        if before is None:
            return cls(before)
        passed_s = max(0.0, now - before.now_s)
        if before.wall_s == 0.0 < wall_s:
            return cls(before, 0.0, min(passed_s, wall_s))
        return cls(before, before.rates_s * math.exp(-passed_s / _memory_s(before)), passed_s)

    def of(self, name: str, count: int, rate: str = "") -> float:
        """Per second, of a counter that stands at ``count``. rate: the field, where it is not called after ``name``."""
        if self.before is None:
            return 0.0
        return self._mean(getattr(self.before, rate or f"{name}_per_s"), count - int(getattr(self.before, name)))

    def arrivals(self, env_steps: int) -> float:
        """Per second."""
        return 0.0 if self.before is None else self._mean(self.before.arrivals_per_s, env_steps > self.before.env_steps)

    def _mean(self, remembered: float, came: int) -> float:
        if self.passed_s <= 0.0:
            return remembered
        return (remembered * self.before_s + came) / (self.before_s + self.passed_s)


def _memory_s(before: RunSummary) -> float:
    """Some seconds, and as long as FEW arrivals take where those are rare: rollouts that end together are no peak."""
    return min(LONGEST_S, max(RECENT_S, FEW / max(before.arrivals_per_s, 1e-9)))


def idle_s(state: LearnerState, now: float) -> float:
    """Seconds since something was applied in this life, or since actors train where that is later; 0 before both."""
    moments = (state.sessions.training_from, state.progress.advanced_at)
    return min((now - moment for moment in moments if moment is not None), default=0.0)


def stalled(state: LearnerState, now: float) -> bool:
    """Actors train, and for STALLED_S nothing was applied. So page, /status and TrainingStalled mean it."""
    training = state.shutdown.running and state.sessions.training_from is not None
    return training and idle_s(state, now) >= STALLED_S


def rounded(value: Any) -> Any:
    """Numbers as far as anybody reads them; everything else as it is."""
    return round(value, 3) if isinstance(value, float) else value
