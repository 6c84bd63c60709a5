"""Which stages of ``actor.curriculum`` a run has come to, told once each. Pure. Knows numbers and plain data."""

from __future__ import annotations

from learner.config import Experiment, stages


class StageTeller:
    """env_steps: of the run as this life began; stages before were told by the lives before."""

    def __init__(self, experiment: Experiment, env_steps: int) -> None:
        numbered = enumerate(stages(experiment), start=1)
        self._coming = [(number, at, changed) for number, (at, changed) in numbered if at > env_steps]

    def passed(self, env_steps: int) -> list[dict[str, object]]:
        """The fields of an event for each stage that has begun since it was last asked."""
        told: list[dict[str, object]] = []
        while self._coming and self._coming[0][1] <= env_steps:
            number, at, changed = self._coming.pop(0)
            told.append({"stage": number, "from_env_steps": at, "set": changed})
        return told
