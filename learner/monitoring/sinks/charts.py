"""Which charts other programs are given, and their points from a run's lines. Pure. Plain numbers and names.

Tags are Stable-Baselines3's where it has the same quantity, so that runs of both lie in one chart. The step is
environment steps.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

TAGS = {  # fields of a progress line, as deploy/PROGRESS.md has them
    "return_mean": "rollout/ep_rew_mean",
    "episodes": "rollout/episodes",
    "env_steps_per_s": "time/fps",
    "version": "train/n_updates",
    "policy_loss": "train/policy_gradient_loss",
    "value_loss": "train/value_loss",
    "entropy_nats": "train/entropy",
    "kl_nats": "train/approx_kl",
    "clipped_ratio": "train/clip_fraction",
    "gradient_norm": "train/gradient_norm",
    "residual_norm": "train/residual_norm",
    "explained_variance": "train/explained_variance",
    "received_bytes": "link/received_bytes",
    "sent_bytes": "link/sent_bytes",
}
SECONDS, LAG, SCORE = "time/training_seconds", "train/lag_updates", "eval/mean_reward"
METRICS = "metrics/"  # before the name of what an environment measures
VERSIONS = 1000  # lines whose versions are remembered: a score comes soon after its θ was made


class Points(NamedTuple):
    """What charts get at one moment: values by tag. unix_s: wall clock."""

    env_steps: int
    unix_s: float
    values: dict[str, float]


class Charts:
    """One life's lines, in their order. earlier_s: of training in the lives before."""

    def __init__(self, earlier_s: float = 0.0) -> None:
        self._earlier_s = earlier_s
        self._versions: deque[tuple[int, int]] = deque(maxlen=VERSIONS)  # θ's, and environment steps
        self._lags = (0, 0)  # count and sum of the line before

    def read(self, said: Mapping[str, Any]) -> Points | None:
        """What a line means for charts; None where it means nothing."""
        if said["event"] == "progress":
            return self._progress(said)
        if said["event"] == "evaluated":
            return Points(self._steps_at(said["version"]), said["unix_s"], {SCORE: said["mean"]})
        return None

    def _progress(self, said: Mapping[str, Any]) -> Points:
        self._versions.append((said["version"], said["env_steps"]))
        values = {tag: said[field] for field, tag in TAGS.items() if said.get(field) is not None}
        values[SECONDS] = self._earlier_s + said["wall_s"]
        counted, summed = self._lags
        self._lags = said["lag_count"], said["lag_sum_updates"]
        if self._lags[0] > counted:
            values[LAG] = (self._lags[1] - summed) / (self._lags[0] - counted)
        values |= {METRICS + name: mean for name, mean in said["metrics"].items()}
        return Points(said["env_steps"], said["unix_s"], values)

    def _steps_at(self, version: int) -> int:
        """Of the run when this version was made, as far as lines tell."""
        index = bisect_right(self._versions, version, key=lambda line: line[0])
        return self._versions[max(0, index - 1)][1] if self._versions else 0
