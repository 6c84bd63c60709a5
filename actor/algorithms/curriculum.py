"""Which settings hold at which age of a run. Pure. Knows settings; no simulator, no network, no wire.

A stage follows from the run's environment steps alone, so all actors find the same one, whoever joins or comes back
when, and a run that is resumed goes on at the stage that it was in.
"""

from __future__ import annotations

from bisect import bisect_right

from actor.config import ActorSettings, stages


class Curriculum:
    """The stages of one run, of which one is present. number: of it, 0 before the first of ``actor.curriculum``."""

    def __init__(self, settings: ActorSettings) -> None:
        self._stages = stages(settings)
        self._told = settings.curriculum
        self.number = 0

    @property
    def settings(self) -> ActorSettings:
        """What holds in the present stage."""
        return self._stages[self.number][1]

    def follow(self, env_steps: int) -> dict[str, object] | None:
        """The stage of this age is the present one from now on. What an event tells of it, None where it was before.

        env_steps: of the run. A run that lost its last steps may go back.
        """
        found = bisect_right(self._stages, env_steps, key=lambda stage: stage[0]) - 1
        if found == self.number:
            return None
        self.number = found
        changed = self._told[found - 1].set if found else {}
        return {"stage": found, "from_env_steps": self._stages[found][0], "set": changed}


def last(settings: ActorSettings) -> ActorSettings:
    """What holds in the end: the task that all stages lead to, by which a policy is judged."""
    return stages(settings)[-1][1]
