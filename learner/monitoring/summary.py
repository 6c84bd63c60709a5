"""A run at one moment, for people, pages and progress.jsonl. Pure: reads the state and, for rates, an earlier one."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from learner.monitoring.scaling import scaling
from learner.progress import with_former
from learner.state import LearnerState

RATE_MEMORY_S = 2.0  # rates are averaged over about this long, so that they can be read
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

    def fields(self) -> dict[str, object]:
        """For a progress event: rounded, without what only the next summary needs."""
        fields = {key: rounded(value) for key, value in asdict(self).items()}
        del fields["now_s"], fields["wall_s"]
        return with_former(fields)


def summarize(state: LearnerState, now: float, before: RunSummary | None = None) -> RunSummary:
    """The run as it stands. before: an earlier summary of the same run, from which rates follow."""
    progress = state.progress
    judged, scales = sum(progress.rulings.values()), scaling(state)
    best = progress.return_best_mean
    return RunSummary(
        now_s=now,
        wall_s=0.0 if state.training_since is None else now - state.training_since,
        stage=state.shutdown.stage.value,
        env_steps=progress.env_steps,
        env_steps_per_s=_rate(before, now, progress.env_steps, "env_steps", "env_steps_per_s"),
        episodes=progress.episodes,
        return_mean=progress.return_mean,
        return_best_mean=best if math.isfinite(best) else None,
        return_target=state.experiment.run.until_return,
        version=progress.version,
        updates_per_s=_rate(before, now, progress.version, "version", "updates_per_s"),
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
    )


def _rate(before: RunSummary | None, now: float, count: int, counted: str, rate: str) -> float:
    """Per second, averaged with exponentially fading memory."""
    if before is None:
        return 0.0
    seconds = now - before.now_s
    remembered = float(getattr(before, rate))
    if seconds <= 0.0:
        return remembered
    fresh = (count - int(getattr(before, counted))) / seconds
    share = 1.0 if remembered == 0.0 else 1.0 - math.exp(-seconds / RATE_MEMORY_S)
    return remembered + share * (fresh - remembered)


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
